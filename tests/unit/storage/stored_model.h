// A model whose weights are kept in some type, run without a program around it; and the same model
// in f32 with the very weights that the type holds.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "core/engine/edge.h"
#include "core/engine/inference.h"
#include "core/model/params.h"
#include "core/model/source.h"
#include "host/session/session.h"

namespace retort::host {

inline constexpr int kThreads = 2;

inline std::unique_ptr<Session> NewSession() {
  SessionOptions options;
  options.plugin_dir = RETORT_PLUGIN_DIR;
  return std::make_unique<Session>(options);
}

class StoredModel {
 public:
  // Of a source, or (NULL) with first values by the params' rules.
  static StoredModel Load(const graph::Graph& graph, model::Storage storage,
                          const model::Source* source) {
    const model::StoragePlan plan = model::PlanStorage(graph, {.storage = storage}, source);
    StoredModel made(graph, plan.dtypes);
    const Status loaded = source != nullptr
                              ? model::LoadParams(*source, graph, made.store_, kThreads)
                              : model::InitParams(graph, 5, made.store_, kThreads);
    EXPECT_TRUE(loaded.ok()) << loaded.ToString();
    return made;
  }

  // In f32, with equal weights.
  StoredModel Dequantized() const {
    StoredModel made(graph_, {});
    for (size_t i = 0; i < store_.size(); ++i) {
      const TensorView& view = store_.view(i);
      if (view.dtype == DType::kF32) {
        std::copy_n(view.as<float>(), view.numel(), made.store_.data(i));
      } else {
        model::DequantizeRows(view, 0, view.rows(), made.store_.data(i));
      }
    }
    return made;
  }

  // [rows, V] of one sequence.
  std::vector<float> Logits(const std::vector<int32_t>& ids) {
    inference();
    std::vector<int32_t> positions(ids.size());
    std::iota(positions.begin(), positions.end(), 0);
    const int32_t bounds[] = {0, static_cast<int32_t>(ids.size())};
    const TensorView hidden =
        inference_->Forward({.ids = ids, .positions = positions, .cu_seqlens = bounds}, nullptr);
    std::vector<float> logits(ids.size() * static_cast<size_t>(graph_.vocab()));
    inference_->Logits(hidden, TensorView::Contiguous(logits.data(), DType::kF32,
                                                      {hidden.rows(), graph_.vocab()}));
    return logits;
  }

  engine::Inference& inference() {
    if (!inference_) {
      engine::SetThreads(kThreads);
      inference_ = std::make_unique<engine::Inference>(graph_, store_.views(), kThreads);
    }
    return *inference_;
  }
  const model::ParamStore& store() const { return store_; }

 private:
  StoredModel(const graph::Graph& graph, std::span<const DType> dtypes)
      : graph_(graph), store_(model::ParamStore::Allocate(graph, dtypes).value()) {}

  const graph::Graph& graph_;
  model::ParamStore store_;
  std::unique_ptr<engine::Inference> inference_;
};

// Root mean square of the difference, as a share of the reference's spread around its mean.
inline double RelativeError(const std::vector<float>& logits, const std::vector<float>& reference) {
  double mean = 0, spread = 0, error = 0;
  for (const float z : reference) mean += static_cast<double>(z);
  mean /= static_cast<double>(reference.size());
  for (size_t i = 0; i < reference.size(); ++i) {
    const double z = static_cast<double>(reference[i]);
    spread += (z - mean) * (z - mean);
    error += (static_cast<double>(logits[i]) - z) * (static_cast<double>(logits[i]) - z);
  }
  return std::sqrt(error / spread);
}

// How far rounding x to int8 may move the logits of a model of n linear nodes (experts: two, one
// after the other). Per 32 numbers the
// step is max/127, the error step/sqrt(12) on average, and max at most sqrt(32) of their root mean
// square: .0129 of it. Errors of one node after the other add in squares.
inline double Int8Bound(const graph::Graph& graph) {
  double linears = 1;  // the head
  for (const graph::Node& node : graph.nodes) {
    linears += node.op == graph::Op::kLinear ? 1 : node.op == graph::Op::kMoe ? 2 : 0;
  }
  return std::sqrt(32.0 / 12.0) / 127 * std::sqrt(linears);
}

}  // namespace retort::host
