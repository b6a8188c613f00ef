// SPDX-License-Identifier: Apache-2.0
#include "core/ops/gemm.h"
#include "core/ops/ops.h"
#include "retort/kernels/elementwise.h"
#include "retort/kernels/gemm.h"

namespace retort::ops {

void LinearForward(const TensorView& x, const TensorView& w, const TensorView* bias,
                   const TensorView& y, int n_threads) {
  if (x.dtype == DType::kF32 && x.shape[0] <= kSkinnyRows) {
    const retort_skinny_gemm_shape shape{.m = x.shape[0],
                                         .o = w.shape[0],
                                         .i = w.shape[1],
                                         .x_stride = x.strides[0],
                                         .w_stride = w.strides[0],
                                         .y_stride = y.strides[0]};
    retort_skinny_gemm_f32(&shape, x.as<float>(), w.as<float>(),
                           bias == nullptr ? nullptr : bias->as<float>(), y.as<float>(), n_threads);
    return;
  }
  Gemm(x, Transpose::kNo, w, Transpose::kYes, y, /*accumulate=*/false);
  if (bias == nullptr) return;
  if (y.dtype == DType::kF32) {
    retort_add_bias_f32(y.as<float>(), y.strides[0], bias->as<float>(), y.shape[0], y.shape[1],
                        n_threads);
  } else {
    retort_add_bias_f64(y.as<double>(), y.strides[0], bias->as<double>(), y.shape[0], y.shape[1],
                        n_threads);
  }
}

void LinearBackwardInput(const TensorView& dy, const TensorView& w, const TensorView& dx,
                         bool accumulate) {
  Gemm(dy, Transpose::kNo, w, Transpose::kNo, dx, accumulate);
}

void LinearBackwardWeight(const TensorView& dy, const TensorView& x, const TensorView& dw,
                          bool accumulate) {
  Gemm(dy, Transpose::kYes, x, Transpose::kNo, dw, accumulate);
}

void LinearBackwardBias(const TensorView& dy, const TensorView& db, int n_threads) {
  if (dy.dtype == DType::kF32) {
    retort_col_sum_f32(dy.as<float>(), dy.strides[0], db.as<float>(), dy.shape[0], dy.shape[1],
                       n_threads);
  } else {
    retort_col_sum_f64(dy.as<double>(), dy.strides[0], db.as<double>(), dy.shape[0], dy.shape[1],
                       n_threads);
  }
}

}  // namespace retort::ops
