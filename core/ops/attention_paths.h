// Two ways to compute causal attention of one sequence; attention.cc chooses.
// Views are the rows of one sequence: q and out [L, N*H], k and v [L, G*H], lse [L, N].
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/ops/ops.h"

namespace retort::ops {

struct AttentionOperands {
  TensorView q, k, v, out;
  const TensorView* lse = nullptr;  // may be NULL in forward
};

// LibTorch's flash kernel for the CPU: full causal attention, no soft cap. The log-sum-exps lie
// [N, L] in the memory of lse: only its own backward reads them.
void FlashForward(const graph::AttentionSpec& spec, const AttentionOperands& x);
void FlashBackward(const graph::AttentionSpec& spec, const TensorView& d_out,
                   const AttentionOperands& x, const AttentionGradients& grads);

// Plain loops with window and soft cap; the oracle of the flash path in tests.
void PlainForward(const graph::AttentionSpec& spec, const AttentionOperands& x, int n_threads);
void PlainBackward(const graph::AttentionSpec& spec, const TensorView& d_out,
                   const AttentionOperands& x, const AttentionGradients& grads, int n_threads);

}  // namespace retort::ops
