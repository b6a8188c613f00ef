// Rotary position embedding of heads laid out [rows, n_heads * head_dim].
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_KERNELS_ROPE_H_
#define RETORT_KERNELS_ROPE_H_

#include "retort/kernels/base.h"

RETORT_KERNELS_BEGIN

enum {
  RETORT_KERNELS_ROPE_HALVES = 0,       // pairs (i, i + rotary_dim / 2)
  RETORT_KERNELS_ROPE_INTERLEAVED = 1,  // pairs (2i, 2i + 1)
};

typedef struct retort_rope_shape {
  int64_t rows, n_heads, head_dim;
  int64_t rotary_dim;  // even, at most head_dim; the dimensions after it are copied
  int32_t layout;      // RETORT_KERNELS_ROPE_*
  int32_t inverse;     // 1: rotate back (the gradient)
} retort_rope_shape;

// cos, sin: tables [.., rotary_dim / 2]; row r uses table row positions[r], or r if positions is
// NULL. y may be x.
void retort_rope_f32(const retort_rope_shape* shape, const float* x, int64_t x_stride,
                     const float* cos_table, const float* sin_table, const int32_t* positions,
                     float* y, int64_t y_stride, int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_rope_f64(const retort_rope_shape* shape, const double* x, int64_t x_stride,
                     const double* cos_table, const double* sin_table, const int32_t* positions,
                     double* y, int64_t y_stride, int n_threads) RETORT_KERNELS_NOEXCEPT;

RETORT_KERNELS_END
#endif  // RETORT_KERNELS_ROPE_H_
