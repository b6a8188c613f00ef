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

// c [m, n] = sum over the terms of a [m, k] b [k, n], or c += it: a blocked GEMM for many rows.
// The order of a sum depends on the terms' k alone. c overlaps no input.
// A call uses up to 768 KiB of stack in each thread.
enum { RETORT_GEMM_TERMS = 4 };  // at most
typedef struct retort_gemm_term {
  const float* a;
  const float* b;
  int64_t k, a_stride, b_stride;       // strides of what is stored
  int32_t a_transposed, b_transposed;  // not 0: stored [k, m], [n, k]
} retort_gemm_term;
typedef struct retort_gemm_shape {
  int64_t m, n, c_stride;
  int32_t n_terms, accumulate;
  int32_t c_transposed;  // not 0: stored [n, m]
} retort_gemm_shape;
void retort_gemm_f32(const retort_gemm_shape* shape, const retort_gemm_term* terms, float* c,
                     int n_threads) RETORT_KERNELS_NOEXCEPT;
// Whether it is faster here than MKL, which runs AVX2 code on CPUs with AVX-512 that aren't
// Intel's.
int retort_gemm_is_fast(void) RETORT_KERNELS_NOEXCEPT;

RETORT_KERNELS_END
#endif  // RETORT_KERNELS_GEMM_H_
