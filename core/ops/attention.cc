// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/ops/ops.h"
#include "retort/kernels/attention_train.h"

namespace retort::ops {
namespace {

retort_train_attention_shape Shape(const graph::AttentionSpec& spec) {
  return {.n_heads = spec.n_heads,
          .n_kv_heads = spec.n_kv_heads,
          .head_dim = spec.head_dim,
          .window = spec.window,
          .scale = spec.scale,
          .soft_cap = spec.soft_cap,
          .n_sequences = 0,
          .cu_seqlens = nullptr,
          .q_stride = 0,
          .k_stride = 0,
          .v_stride = 0,
          .out_stride = 0,
          .dq_stride = 0,
          .dk_stride = 0,
          .dv_stride = 0,
          .d_out_stride = 0};
}

retort_train_attention_shape Shape(const graph::AttentionSpec& spec,
                                   std::span<const int32_t> cu_seqlens, const TensorView& q,
                                   const TensorView& k, const TensorView& v,
                                   const TensorView& out) {
  retort_train_attention_shape shape = Shape(spec);
  shape.n_sequences = static_cast<int64_t>(cu_seqlens.size()) - 1;
  shape.cu_seqlens = cu_seqlens.data();
  shape.q_stride = q.strides[0];
  shape.k_stride = k.strides[0];
  shape.v_stride = v.strides[0];
  shape.out_stride = out.strides[0];
  return shape;
}

int64_t Longest(std::span<const int32_t> cu_seqlens) {
  int64_t longest = 0;
  for (size_t s = 0; s + 1 < cu_seqlens.size(); ++s) {
    longest = std::max<int64_t>(longest, cu_seqlens[s + 1] - cu_seqlens[s]);
  }
  return longest;
}

}  // namespace

int64_t AttentionWorkspaceBytes(const graph::AttentionSpec& spec, DType dtype, int64_t longest,
                                bool backward, int n_threads) {
  const retort_train_attention_shape shape = Shape(spec);
  const int both = backward ? 1 : 0;
  return dtype == DType::kF64
             ? retort_train_attention_scratch_f64(&shape, longest, both, n_threads)
             : retort_train_attention_scratch_f32(&shape, longest, both, n_threads);
}

void AttentionForward(const graph::AttentionSpec& spec, std::span<const int32_t> cu_seqlens,
                      const TensorView& q, const TensorView& k, const TensorView& v,
                      const TensorView& out, const TensorView* lse, Workspace& workspace,
                      int n_threads) {
  const retort_train_attention_shape shape = Shape(spec, cu_seqlens, q, k, v, out);
  void* const scratch = workspace.Reserve(
      AttentionWorkspaceBytes(spec, q.dtype, Longest(cu_seqlens), false, n_threads));
  if (q.dtype == DType::kF32) {
    retort_train_attention_f32(&shape, q.as<float>(), k.as<float>(), v.as<float>(), out.as<float>(),
                               lse == nullptr ? nullptr : lse->as<float>(), scratch, n_threads);
  } else {
    retort_train_attention_f64(&shape, q.as<double>(), k.as<double>(), v.as<double>(),
                               out.as<double>(), lse == nullptr ? nullptr : lse->as<double>(),
                               scratch, n_threads);
  }
}

void AttentionBackward(const graph::AttentionSpec& spec, std::span<const int32_t> cu_seqlens,
                       const TensorView& d_out, const TensorView& q, const TensorView& k,
                       const TensorView& v, const TensorView& out, const TensorView& lse,
                       const AttentionGradients& grads, Workspace& workspace, int n_threads) {
  retort_train_attention_shape shape = Shape(spec, cu_seqlens, q, k, v, out);
  shape.dq_stride = grads.dq.strides[0];
  shape.dk_stride = grads.dk.strides[0];
  shape.dv_stride = grads.dv.strides[0];
  shape.d_out_stride = d_out.strides[0];
  void* const scratch = workspace.Reserve(
      AttentionWorkspaceBytes(spec, q.dtype, Longest(cu_seqlens), true, n_threads));
  if (q.dtype == DType::kF32) {
    retort_train_attention_backward_f32(&shape, d_out.as<float>(), q.as<float>(), k.as<float>(),
                                        v.as<float>(), out.as<float>(), lse.as<float>(),
                                        grads.dq.as<float>(), grads.dk.as<float>(),
                                        grads.dv.as<float>(), scratch, n_threads);
  } else {
    retort_train_attention_backward_f64(&shape, d_out.as<double>(), q.as<double>(), k.as<double>(),
                                        v.as<double>(), out.as<double>(), lse.as<double>(),
                                        grads.dq.as<double>(), grads.dk.as<double>(),
                                        grads.dv.as<double>(), scratch, n_threads);
  }
}

}  // namespace retort::ops
