// SPDX-License-Identifier: Apache-2.0
#include <ATen/core/Tensor.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <c10/core/InferenceMode.h>

#include "core/ops/attention_paths.h"
#include "core/ops/libtorch_view.h"

namespace retort::ops {
namespace {

constexpr double kNoDropout = 0;
constexpr bool kCausal = true;

// Rows [L, heads * H] as [1, heads, L, H].
at::Tensor Heads(const TensorView& rows, int64_t head_dim) {
  TensorView v = rows;
  v.ndim = 4;
  v.shape = {1, rows.shape[1] / head_dim, rows.shape[0], head_dim};
  v.strides = {rows.shape[0] * rows.strides[0], head_dim, rows.strides[0], 1};
  return ToTensor(v);
}

// [1, N, L] over the memory of lse, in the kernel's own order.
at::Tensor LogSumExps(const TensorView& lse) {
  const int64_t length = lse.shape[0], heads = lse.shape[1];
  return ToTensor(TensorView::Contiguous(lse.data, lse.dtype, {1, heads, length}));
}

}  // namespace

void FlashForward(const graph::AttentionSpec& spec, const AttentionOperands& x) {
  const c10::InferenceMode no_autograd;
  const auto [out, lse] = at::_scaled_dot_product_flash_attention_for_cpu(
      Heads(x.q, spec.head_dim), Heads(x.k, spec.head_dim), Heads(x.v, spec.head_dim), kNoDropout,
      kCausal, std::nullopt, spec.scale);
  Heads(x.out, spec.head_dim).copy_(out);
  if (x.lse != nullptr) LogSumExps(*x.lse).copy_(lse);
}

void FlashBackward(const graph::AttentionSpec& spec, const TensorView& d_out,
                   const AttentionOperands& x, const AttentionGradients& grads) {
  const c10::InferenceMode no_autograd;
  const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
      Heads(d_out, spec.head_dim), Heads(x.q, spec.head_dim), Heads(x.k, spec.head_dim),
      Heads(x.v, spec.head_dim), Heads(x.out, spec.head_dim), LogSumExps(*x.lse), kNoDropout,
      kCausal, std::nullopt, spec.scale);
  Heads(grads.dq, spec.head_dim).copy_(dq);
  Heads(grads.dk, spec.head_dim).copy_(dk);
  Heads(grads.dv, spec.head_dim).copy_(dv);
}

}  // namespace retort::ops
