// The memory of a pass: where each buffer of its plan lies. Inference and training over several
// micro-batches have an arena that grows with the rows; training over one may lend the pass the
// memory of the gradients, until backward writes them (layout.h).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/tensor.h"
#include "core/engine/arena.h"
#include "core/engine/layout.h"
#include "core/engine/plan.h"
#include "core/graph/graph.h"

namespace retort::engine {

class PassMemory {
 public:
  // What a training pass may use beside its own arena.
  struct Lent {
    unsigned char* data = nullptr;  // of the gradients; must stay
    const GradientSpace* gradients = nullptr;
    int64_t head_bytes = 0;  // that the head wants in the same memory
  };

  // Graph and plan outlive the object.
  PassMemory(const graph::Graph& graph, const Plan& plan, DType dtype)
      : graph_(graph), plan_(plan), dtype_(dtype), address_(plan.buffers.size()) {}

  // Makes room for a pass over `rows`; contents are lost. `lent`: NULL: its own arena alone.
  void Prepare(int64_t rows, const Lent* lent);
  unsigned char* At(BufferId id) const { return address_[static_cast<size_t>(id)]; }
  // What was lent to the head, at the plan's head_time; empty: nothing.
  std::span<unsigned char> head() const { return head_; }

  int64_t bytes() const { return arena_.bytes(); }
  int64_t growths() const { return arena_.growths(); }

 private:
  void PlaceByRows();
  void PlaceBeside(const Lent& lent);

  const graph::Graph& graph_;
  const Plan& plan_;
  const DType dtype_;
  Arena arena_;
  std::vector<unsigned char*> address_;  // by BufferId
  std::span<unsigned char> head_;
  int64_t padded_rows_ = 0, head_bytes_ = 0;  // for which the addresses are
  bool lent_ = false;
};

}  // namespace retort::engine
