// The model of tests/fixtures/hybrid with the plugins of the example, ready to run in f32 or f64.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "core/engine/edge.h"
#include "core/engine/inference.h"
#include "core/model/params.h"
#include "core/model/source.h"
#include "host/session/session.h"

namespace retort::host {

inline constexpr int kThreads = 1;

inline std::unique_ptr<Session> HybridSession() {
  SessionOptions options;
  options.plugin_dir = RETORT_PLUGIN_DIR;
  auto session = std::make_unique<Session>(options);
  Status status = session->EnsurePlugins();
  EXPECT_TRUE(status.ok()) << status.ToString();
  status = session->plugins().LoadFile(RETORT_HYBRID);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return session;
}

// T is float or double: the weights of the checkpoint either way.
template <class T>
class HybridModel {
 public:
  HybridModel() {
    engine::SetThreads(kThreads);
    const auto source =
        model::Source::Open(std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/hybrid").value();
    graph_ = session_->BuildGraph(*source).value();
    model::ParamStore store = model::ParamStore::Allocate(graph_).value();
    const Status loaded = model::LoadParams(*source, graph_, store, kThreads);
    EXPECT_TRUE(loaded.ok()) << loaded.ToString();
    for (const TensorView& view : store.views()) {
      storage_.emplace_back(view.as<float>(), view.as<float>() + view.numel());
      views_.push_back(TensorView::Contiguous(storage_.back().data(),
                                              sizeof(T) == 8 ? DType::kF64 : DType::kF32,
                                              graph_.params[views_.size()].shape));
    }
  }

  Session& session() { return *session_; }
  const graph::Graph& graph() const { return graph_; }
  const std::vector<TensorView>& views() const { return views_; }
  std::vector<T>& Weights(size_t param) { return storage_[param]; }

  // Logits of every row.
  std::vector<T> Logits(const engine::RowBatch& batch) {
    if (!inference_) inference_ = std::make_unique<engine::Inference>(graph_, views_, kThreads);
    const TensorView hidden = inference_->Forward(batch, nullptr);
    std::vector<T> logits(batch.ids.size() * static_cast<size_t>(graph_.vocab()));
    inference_->Logits(hidden, TensorView::Contiguous(logits.data(), views_[0].dtype,
                                                      {hidden.rows(), graph_.vocab()}));
    return logits;
  }

 private:
  std::unique_ptr<Session> session_ = HybridSession();  // outlives the graph's instances
  graph::Graph graph_;
  std::vector<std::vector<T>> storage_;
  std::vector<TensorView> views_;
  std::unique_ptr<engine::Inference> inference_;
};

}  // namespace retort::host
