// Values: the value head's one number per hidden row, and the way back.
// Legend: T rows, D width.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "core/base/tensor.h"
#include "core/engine/gradients.h"
#include "core/graph/graph.h"

namespace retort::engine {

class ValueHead {
 public:
  // `params`: f32 or f64 views, in the graph's order.
  ValueHead(const graph::Graph& graph, std::span<const TensorView> params)
      : index_(graph.value_head) {
    if (index_ >= 0) weight_ = params[static_cast<size_t>(index_)];
  }
  bool exists() const { return index_ >= 0; }

  // values[t] = hidden[t] . w. Sums in f64, in the order of columns.
  void Forward(const TensorView& hidden_TD, const TensorView& values_T) const;
  // Adds d_values[t] w to d_hidden[t], and the sum of d_values[t] hidden[t] to the head's gradient.
  void Backward(const TensorView& d_values_T, const TensorView& hidden_TD,
                const TensorView& d_hidden_TD, Gradients& grads) const;

 private:
  int32_t index_;
  TensorView weight_{};
};

}  // namespace retort::engine
