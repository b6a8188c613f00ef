// Keys and values of the decode slots, and the attention over them; beside them the states of
// custom ops. A slot holds one sequence of at most `context` positions; memory is taken once and
// pages are touched as sequences grow. Layout, K and V alike: [slot][layer][kv head][position][head
// dim]. Legend: T rows of the pass, N query heads, G key/value heads, H head dim.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/base/status.h"
#include "core/engine/inference.h"
#include "core/generate/op_states.h"
#include "core/graph/graph.h"
#include "retort/kernels/attention.h"

namespace retort::generate {

class KvCache final : public engine::AttentionStore {
 public:
  // Rows of one slot in the coming pass: they stand at positions past .. past + rows - 1.
  struct Rows {
    int32_t slot = 0;
    int64_t past = 0, rows = 1;
  };

  static Result<std::unique_ptr<KvCache>> Create(const graph::Graph& graph, int64_t slots,
                                                 int64_t context, int n_threads);
  // Bytes of one position of one slot.
  static int64_t BytesPerToken(const graph::Graph& graph);

  // What the rows of the next passes are, in the pass's order.
  void SetRows(std::span<const Rows> rows);
  // A prompt moves in: states of ops begin at zero.
  void BeginPrompt(int32_t slot) { states_.Clear(slot); }
  // All of it has passed: keeps the states, for the other samples of the prompt.
  void EndPrompt(int32_t slot) { states_.Keep(slot); }
  // Copies positions 0 .. n-1 of all layers, which must be the prompt of the last EndPrompt, and
  // the states kept then. from may be to.
  void CopyPrefix(int32_t from, int32_t to, int64_t n);

  void Attend(const graph::Node& node, const TensorView& q, const TensorView& k,
              const TensorView& v, const TensorView& out) override;
  engine::OpStates StatesOf(const graph::Node& node) override {
    return states_.Of(node.custom, slots_);
  }

  int64_t context() const { return context_; }

 private:
  struct Layer {
    int64_t offset = 0, n_kv_heads = 0, head_dim = 0;  // offset in elements, within a slot
  };
  struct Free {
    void operator()(float* p) const;
  };
  KvCache() = default;
  int64_t OffsetOf(int64_t slot, const Layer& layer) const {
    return slot * slot_elements_ + layer.offset;
  }
  void Append(const Layer& layer, const TensorView& rows_TGH, float* cache) const;

  std::vector<Layer> layers_;
  std::vector<Rows> rows_;
  std::vector<int32_t> slots_;  // of rows_
  OpStateMemory states_;
  std::vector<retort_attention_sequence_f32> sequences_;  // of the node at hand
  std::unique_ptr<float[], Free> keys_, values_;
  int64_t context_ = 0, slot_elements_ = 0;
  int n_threads_ = 1;
};

}  // namespace retort::generate
