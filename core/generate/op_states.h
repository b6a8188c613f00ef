// States of custom ops: for each state tensor one block of [slots + 1, shape of one slot]. A slot's
// state belongs to its sequence; the slot behind the last keeps those of the prompt whose samples
// are being admitted, because a slot's own state moves on with its sample.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "core/base/status.h"
#include "core/engine/inference.h"
#include "core/graph/graph.h"

namespace retort::generate {

class OpStateMemory {
 public:
  OpStateMemory() = default;
  // UNIMPLEMENTED, with the node's name, for an op that can't decode; RESOURCE_EXHAUSTED with the
  // numbers.
  static Result<OpStateMemory> Create(const graph::Graph& graph, int64_t slots);
  // Of one slot, all ops.
  static int64_t BytesPerSlot(const graph::Graph& graph);

  void Clear(int32_t slot);
  void Keep(int32_t slot) { Copy(slot, slots_); }
  void Restore(int32_t slot) { Copy(slots_, slot); }
  // Of the custom op with that index.
  engine::OpStates Of(int32_t custom, std::span<const int32_t> slots) const;

 private:
  struct Free {
    void operator()(unsigned char* p) const { std::free(p); }
  };
  struct Tensor {
    unsigned char* data = nullptr;
    size_t bytes = 0;  // of one slot
  };
  void Copy(int64_t from, int64_t to);

  int64_t slots_ = 0;
  std::unique_ptr<unsigned char[], Free> memory_;
  std::vector<Tensor> tensors_;
  std::vector<std::vector<unsigned char*>> of_custom_;  // data of each state, per custom op
};

}  // namespace retort::generate
