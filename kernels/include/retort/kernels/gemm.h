// y[m,o] = sum_i x[m,i] * w[o,i] (+ bias[o]): a few rows against a large row-major weight, bound
// by the bytes of w. Any m works; from some tens of rows on a blocked GEMM library is faster.
// Batch-invariant: y[m,o] depends on x[m,:], w[o,:] and bias[o] alone, to the bit, whatever m, the
// other rows and n_threads are (one reduction order: 16 lanes over i, one tree at the end).
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_KERNELS_GEMM_H_
#define RETORT_KERNELS_GEMM_H_

#include "retort/kernels/base.h"

RETORT_KERNELS_BEGIN

typedef struct retort_skinny_gemm_shape {
  int64_t m, o, i;
  int64_t x_stride, w_stride, y_stride;  // 0: contiguous rows
} retort_skinny_gemm_shape;

// bias may be NULL. y overlaps no input.
void retort_skinny_gemm_f32(const retort_skinny_gemm_shape* shape, const float* x, const float* w,
                            const float* bias, float* y, int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_skinny_gemm_f64(const retort_skinny_gemm_shape* shape, const double* x, const double* w,
                            const double* bias, double* y, int n_threads) RETORT_KERNELS_NOEXCEPT;

RETORT_KERNELS_END
#endif  // RETORT_KERNELS_GEMM_H_
