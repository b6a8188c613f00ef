// A small random decoder and what the tests do with it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "core/engine/inference.h"
#include "core/generate/generator.h"
#include "core/graph/graph.h"
#include "core/model/params.h"
#include "retort/sdk/decoder.h"

namespace retort::generate {

struct TinyOptions {
  int64_t vocab = 131, window = 0;
  uint64_t seed = 1;
  int n_threads = 2;
};

class TinyModel {
 public:
  explicit TinyModel(const TinyOptions& options = {}) : n_threads_(options.n_threads) {
    sdk::Decoder d;
    d.V = options.vocab;
    d.D = 40;
    d.F = 72;
    d.L = 3;
    d.N = 4;
    d.G = 2;
    d.H = 12;
    d.max_positions = 2048;
    d.init_deviation = 0.3;  // large: the next token must depend on the ones before
    d.qkv_bias = true;
    d.windows = {0, options.window, 0};
    graph::Builder builder("tiny");
    sdk::GraphBuilder sdk_builder(builder.table());
    sdk::BuildDecoder(sdk_builder, d);
    graph_ = builder.Finish().value();
    store_ = model::ParamStore::Allocate(graph_).value();
    EXPECT_TRUE(model::InitParams(graph_, options.seed, store_).ok());
    inference_ = std::make_unique<engine::Inference>(graph_, store_.views(), n_threads_);
  }

  engine::Inference& inference() { return *inference_; }
  const graph::Graph& graph() const { return graph_; }
  float* Param(size_t i) { return store_.data(i); }

  struct Output {
    std::vector<engine::Completion> done;  // in order of (position of the request, index)
    engine::GenerateStats stats;
  };
  Output Run(std::span<const engine::GenerateRequest> requests,
             engine::GenerateOptions options = {}) {
    Output out;
    options.on_done = [&](const engine::Completion& c) { out.done.push_back(c); };
    out.stats = Generate(*inference_, graph_, requests, options, n_threads_).value();
    std::sort(out.done.begin(), out.done.end(), [](const auto& a, const auto& b) {
      return std::pair(a.uid, a.index) < std::pair(b.uid, b.index);
    });
    return out;
  }

  // Logits of every row of one sequence, without a cache.
  std::vector<float> FullLogits(const std::vector<int32_t>& ids) {
    std::vector<int32_t> positions;
    for (size_t i = 0; i < ids.size(); ++i) positions.push_back(static_cast<int32_t>(i));
    const int32_t cu_seqlens[] = {0, static_cast<int32_t>(ids.size())};
    const TensorView hidden = inference_->Forward(
        {.ids = ids, .positions = positions, .cu_seqlens = cu_seqlens}, nullptr);
    const auto rows = static_cast<int64_t>(ids.size());
    std::vector<float> logits(static_cast<size_t>(rows * graph_.vocab()));
    inference_->Logits(hidden,
                       TensorView::Contiguous(logits.data(), DType::kF32, {rows, graph_.vocab()}));
    return logits;
  }

 private:
  const int n_threads_;
  graph::Graph graph_;
  model::ParamStore store_;
  std::unique_ptr<engine::Inference> inference_;
};

inline engine::GenerateRequest Request(uint64_t uid, int64_t prompt_tokens, int32_t max_tokens,
                                       double temperature) {
  engine::GenerateRequest request;
  request.uid = uid;
  for (int64_t i = 0; i < prompt_tokens; ++i) {
    request.ids.push_back(static_cast<int32_t>((7 * i + 13 * static_cast<int64_t>(uid)) % 131));
  }
  request.sampling.max_tokens = max_tokens;
  request.sampling.temperature = temperature;
  return request;
}

}  // namespace retort::generate
