// The gradient of every trained param, accumulated over a window of micro-batches in place: the
// first contribution overwrites, so nothing is zeroed in advance.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/tensor.h"
#include "core/engine/arena.h"
#include "core/engine/layout.h"
#include "core/graph/graph.h"

namespace retort::engine {

class Gradients {
 public:
  // `adapter`: its params alone are trained; -1: those of the base.
  Gradients(const graph::Graph& graph, DType dtype, int32_t adapter = -1);

  // Whether the param is trained at all (of what is trained, and not RETORT_PARAM_FROZEN).
  bool Wanted(int32_t param) const { return wanted_[static_cast<size_t>(param)]; }
  const TensorView& view(int32_t param) const { return views_[static_cast<size_t>(param)]; }

  // A new window: what is held counts as garbage.
  void Begin();
  // For ops that can overwrite: whether they must add instead.
  bool MustAccumulate(int32_t param);
  // For ops that only add: the view, zeroed if this is the window's first contribution.
  const TensorView& ForAdding(int32_t param);
  // Ends the window: params without a contribution get zero.
  void Finish();

  // The block and where each param's part is; a pass may work in it before it adds anything.
  unsigned char* data() const { return arena_.data(); }
  const GradientSpace& space() const { return space_; }

 private:
  GradientSpace space_;
  Arena arena_;
  std::vector<TensorView> views_;
  std::vector<bool> wanted_, touched_;
};

}  // namespace retort::engine
