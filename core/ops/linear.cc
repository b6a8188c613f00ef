// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "core/base/status.h"
#include "core/model/packed.h"
#include "core/ops/gemm.h"
#include "core/ops/ops.h"
#include "retort/kernels/elementwise.h"
#include "retort/kernels/gemm.h"

namespace retort::ops {
namespace {

// Whether the packed products take it: weights narrower than the rows, and f32 weights where a row
// must come out alike in any company, which BLAS doesn't promise.
bool IsStored(const TensorView& w, const TensorView& rows, bool any_company) {
  if (w.dtype == rows.dtype) {
    return any_company && w.dtype == DType::kF32 && w.strides[0] == w.shape[1];
  }
  if (rows.dtype == DType::kF32 && model::PackedType(w.dtype) >= 0) return true;
  throw Error(Unimplemented("linear: weights in " + std::string(DTypeName(w.dtype)) +
                            " with rows in " + std::string(DTypeName(rows.dtype))));
}

}  // namespace

void LinearForward(const TensorView& x, const TensorView& w, const TensorView* bias,
                   const TensorView& y, int n_threads, bool exact, bool any_company) {
  if (IsStored(w, x, any_company)) {
    const retort_packed_matrix matrix = model::PackedMatrix(w, 0, exact);
    retort_packed_gemm_f32(&matrix, x.as<float>(), x.shape[0], x.strides[0],
                           bias == nullptr ? nullptr : bias->as<float>(), y.as<float>(),
                           y.strides[0], n_threads);
    return;
  }
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
                         bool accumulate, int n_threads) {
  if (IsStored(w, dy, false)) {
    const retort_packed_matrix matrix = model::PackedMatrix(w);
    retort_packed_gemm_transposed_f32(&matrix, dy.as<float>(), dy.shape[0], dy.strides[0],
                                      accumulate ? 1 : 0, dx.as<float>(), dx.strides[0], n_threads);
    return;
  }
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
