// How much memory work with a graph takes, worked out from the plans that the engine makes, before
// anything is loaded. No LibTorch: `retort plan` calls it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/base/tensor.h"
#include "core/graph/graph.h"

namespace retort::engine {

// Bytes at the peak, by what they are for.
struct MemoryEstimate {
  int64_t weights = 0;  // of the model, as stored
  int64_t teacher = 0;  // weights of a teacher, and what its forward pass takes
  int64_t gradients = 0, optimizer = 0;
  int64_t activations = 0;  // the pass's arena, and what its ops work in
  int64_t head = 0;         // logits and their gradient, where the arena has no room for them
  int64_t cache = 0;        // keys and values while decoding
  int64_t process = 0;      // libraries, thread stacks, tokenizer, host
  int64_t total() const {
    return weights + teacher + gradients + optimizer + activations + head + cache + process;
  }
};

// What loaded weights take; `dtypes` of graph.params as model::PlanStorage gives them, empty: f32.
int64_t WeightBytes(const graph::Graph& graph, std::span<const DType> dtypes);

struct TrainMemory {
  int64_t tokens = 0;         // of the largest micro-batch
  int64_t micro_batches = 1;  // of a step; of one, gradients' memory serves activations
  int64_t label_tokens = 0;   // of them with a label; 0: all
  int64_t head_rows = 0;      // TrainerOptions.head_rows
  int32_t recompute = 0;      // level 0 to 2
  int32_t adapter = -1;       // trained alone; -1: the base
  std::optional<int64_t> state_bytes = {};  // of optimizer states; none: two f32 an element
  int64_t n_losses = 1;
  int64_t longest = 0;  // tokens of the longest document; 0: as many as the micro-batch has
  int32_t n_threads = 1;
  std::span<const DType> dtypes = {};
  const graph::Graph* teacher = nullptr;
  std::span<const DType> teacher_dtypes = {};
};
MemoryEstimate EstimateTraining(const graph::Graph& graph, const TrainMemory& work);

// Keys and values of one block of positions, of all layers.
int64_t KvBlockBytes(const graph::Graph& graph, DType kv_dtype);

struct DecodeMemory {
  int64_t slots = 0;        // samples decoded together
  int64_t pass_tokens = 0;  // of the largest prefill pass
  int64_t kv_blocks = 0;    // generate::KvBudget
  DType kv_dtype = DType::kF32;
  std::span<const DType> dtypes = {};
};
MemoryEstimate EstimateDecoding(const graph::Graph& graph, const DecodeMemory& work);

// The least recompute level whose estimate fits `limit` bytes (0: retort::MemoryAllowed), else 2.
int32_t ChooseRecompute(const graph::Graph& graph, TrainMemory work, int64_t limit);

}  // namespace retort::engine
