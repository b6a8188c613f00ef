// The LM head: rows of hidden states to rows of logits, and the way back. The caller brings the
// memory, chunk by chunk: logits of a whole batch never exist.
// Legend: R rows of a chunk, D width, V vocabulary.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "core/base/tensor.h"
#include "core/engine/gradients.h"
#include "core/graph/graph.h"

namespace retort::engine {

// Rows of a head chunk for `rows` rows in all: equal chunks, multiples of 64, from shapes alone
// (never from free memory), so that a resumed run cuts alike. `wanted` > 0 overrides.
int64_t HeadChunkRows(int64_t rows, int64_t vocab, DType dtype, int64_t wanted);

class Head {
 public:
  // `exact`: logits never come from rounded rows, of whatever type the weights are (training).
  Head(const graph::Graph& graph, std::span<const TensorView> params, int n_threads,
       bool exact = false)
      : graph_(graph),
        weight_(params[static_cast<size_t>(graph.head)]),
        n_threads_(n_threads),
        exact_(exact) {}

  // out = soft_cap(logit_scale * hidden W^T).
  void Logits(const TensorView& hidden_RD, const TensorView& out_RV) const;
  // Whether Backward reads the logits themselves.
  bool NeedsLogits() const { return graph_.logit_soft_cap > 0; }
  // d_logits is overwritten by the gradient before scale and cap. d_hidden is overwritten.
  // `logits` may be NULL unless NeedsLogits.
  void Backward(const TensorView& d_logits_RV, const TensorView* logits_RV,
                const TensorView& hidden_RD, const TensorView& d_hidden_RD, Gradients& grads) const;

 private:
  const graph::Graph& graph_;
  TensorView weight_;
  int n_threads_;
  bool exact_;
};

}  // namespace retort::engine
