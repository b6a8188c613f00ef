// Memory of cached keys and values, and the attention over them; beside them the states of custom
// ops, by decode slot. Memory is taken once; pages are touched as blocks come into use. Layout:
// [block][layer][keys, values][kv head], each as kernels/kv_attention.h has it: a block is one
// piece, so that copying it is one copy.
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
#include "retort/kernels/kv_attention.h"

namespace retort::generate {

struct Unmap {
  size_t bytes = 0;
  void operator()(unsigned char* p) const;
};
using Pages = std::unique_ptr<unsigned char, Unmap>;

class KvCache final : public engine::AttentionStore {
 public:
  // Rows of one sequence in the coming pass: they stand at positions past .. past + rows - 1, which
  // its blocks cover. The blocks stay in place until the pass is over.
  struct Rows {
    std::span<const int32_t> blocks;
    int32_t slot = 0;
    int64_t past = 0, rows = 1;
  };
  struct Options {
    int64_t blocks = 0, slots = 0;
    DType dtype = DType::kF32;  // f32, bf16 or i8
    int n_threads = 1;
  };

  // UNIMPLEMENTED for a model that can't decode; RESOURCE_EXHAUSTED with the numbers.
  static Result<std::unique_ptr<KvCache>> Create(const graph::Graph& graph, const Options& options);
  // INVALID_ARGUMENT: a dtype that keys and values can't have.
  static Result<int64_t> BytesPerBlock(const graph::Graph& graph, DType dtype);

  // What the rows of the next passes are, in the pass's order.
  void SetRows(std::span<const Rows> rows);
  void CopyBlock(int32_t from, int32_t to);
  // States of ops: a prompt begins at zero; what it leaves is kept for all its samples.
  void BeginPrompt(int32_t slot) { states_.Clear(slot); }
  void EndPrompt(int32_t slot) { states_.Keep(slot); }
  void BeginSample(int32_t slot) { states_.Restore(slot); }

  void Attend(const graph::Node& node, const TensorView& q, const TensorView& k,
              const TensorView& v, const TensorView& out) override;
  engine::OpStates StatesOf(const graph::Node& node) override {
    return states_.Of(node.custom, slots_);
  }

 private:
  KvCache() = default;
  static Result<Pages> Map(int64_t blocks, int64_t block_bytes);

  std::vector<retort_kv_cache> layers_;
  std::vector<retort_kv_sequence> sequences_;  // of the pass
  std::vector<int32_t> slots_;                 // likewise
  OpStateMemory states_;
  Pages memory_;
  int64_t block_bytes_ = 0;
  int n_threads_ = 1;
};

}  // namespace retort::generate
