// A forward pass without gradients over packed rows: what scoring, evaluation and decoding share.
// All ops but attention and some custom ones work row by row; those go to the store if there is one
// (KV cache), else each sequence attends within itself. Owns its arena: after the first pass of a
// size, a pass allocates nothing. Used from one thread at a time; LibTorch failures arrive as
// Error. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>

#include "core/base/packed_rows.h"
#include "core/base/plugin_call.h"
#include "core/base/tensor.h"
#include "core/graph/graph.h"

namespace retort::engine {

// The memory of a custom node's state between passes.
struct OpStates {
  std::span<unsigned char* const> data;  // of each state tensor: [slots, shape of one slot]
  int64_t slots = 0;
  std::span<const int32_t> slot;  // [S], of the sequences of the pass
};

// Where decoding keeps keys and values. Called once per attention node and pass, in graph order.
class AttentionStore {
 public:
  virtual ~AttentionStore() = default;
  // q [T, N*H], k and v [T, G*H] of this pass's rows (rope already applied); writes out [T, N*H].
  virtual void Attend(const graph::Node& node, const TensorView& q, const TensorView& k,
                      const TensorView& v, const TensorView& out) = 0;
  // Likewise of a custom node whose op isn't row by row; no data: this store keeps none.
  virtual OpStates StatesOf(const graph::Node&) { return {}; }
};

struct RowBatch {
  std::span<const int32_t> ids;         // [T]
  std::span<const int32_t> positions;   // [T]
  std::span<const int32_t> cu_seqlens;  // [S+1]
  // [S], or empty: sequences that go on from the rows of another. Not with a store, and only where
  // graph::TextsMayShareRows.
  std::span<const Prefix> prefixes = {};
  // [S], or empty: positions of the whole text of each sequence, of which the pass may hold a part
  // (chunked prefill). Some rope scalings go by it. Empty: its last position here + 1.
  std::span<const int32_t> lengths = {};
  PluginCallSettings call = {};  // of custom ops; the pass sets n_threads
  // Hidden rows that somebody reads: the last so many; -1: all. What comes after the last op that
  // looks at other rows is left out for the rest.
  int64_t hidden_rows = -1;
};

inline PackedRows PackedRowsOf(const RowBatch& batch) {
  return {.cu_seqlens = batch.cu_seqlens, .prefixes = batch.prefixes};
}

class Inference {
 public:
  // `params`: f32 (or f64, in tests) views in graph.params order; both outlive the object.
  // n_threads: of the kernels and of LibTorch's pool (already set by the engine).
  Inference(const graph::Graph& graph, std::span<const TensorView> params, int n_threads);
  ~Inference();

  // Which of graph.adapters later passes run; -1 (at first): none. Throws Error: no such adapter.
  void SetAdapter(int32_t adapter);
  // Hidden rows [T or hidden_rows, D] for the head; valid until the next call.
  TensorView Forward(const RowBatch& batch, AttentionStore* store);
  // Logits of some hidden rows [R, D] into out [R, V] (logit scale and soft cap applied).
  void Logits(const TensorView& hidden, const TensorView& out);

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace retort::engine
