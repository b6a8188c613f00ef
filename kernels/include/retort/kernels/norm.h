// RMS norm over vectors of `cols` elements. A row holds `groups` such vectors one after the other
// (groups = heads for a norm per head, else 1); all vectors share w[cols].
//   rstd = 1 / sqrt(mean(x^2) + eps)      y = x * rstd * (w + offset)
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_KERNELS_NORM_H_
#define RETORT_KERNELS_NORM_H_

#include "retort/kernels/base.h"

RETORT_KERNELS_BEGIN

typedef struct retort_norm_shape {
  int64_t rows, groups, cols;
  double eps, offset;
} retort_norm_shape;

// rstd[rows * groups] may be NULL. y may be x.
void retort_rms_norm_f32(const retort_norm_shape* shape, const float* x, int64_t x_stride,
                         const float* w, float* y, int64_t y_stride, float* rstd,
                         int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_rms_norm_f64(const retort_norm_shape* shape, const double* x, int64_t x_stride,
                         const double* w, double* y, int64_t y_stride, double* rstd,
                         int n_threads) RETORT_KERNELS_NOEXCEPT;

// sum = a + b, then y = rms_norm(sum): one pass over memory. Rows are contiguous, groups is 1.
// sum may be a or b; y is none of the others.
void retort_add_rms_norm_f32(const retort_norm_shape* shape, const float* a, const float* b,
                             const float* w, float* sum, float* y, float* rstd,
                             int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_add_rms_norm_f64(const retort_norm_shape* shape, const double* a, const double* b,
                             const double* w, double* sum, double* y, double* rstd,
                             int n_threads) RETORT_KERNELS_NOEXCEPT;

// dx = d loss / d x (added to what dx holds if accumulate != 0); dw[cols] is always added to, and
// may be NULL. dx may be dy (dw is worked out first).
void retort_rms_norm_backward_f32(const retort_norm_shape* shape, const float* dy,
                                  int64_t dy_stride, const float* x, int64_t x_stride,
                                  const float* w, const float* rstd, float* dx, int64_t dx_stride,
                                  int accumulate, float* dw, int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_rms_norm_backward_f64(const retort_norm_shape* shape, const double* dy,
                                  int64_t dy_stride, const double* x, int64_t x_stride,
                                  const double* w, const double* rstd, double* dx,
                                  int64_t dx_stride, int accumulate, double* dw,
                                  int n_threads) RETORT_KERNELS_NOEXCEPT;

// The same in one pass over dy and x: rows of 64 give partial sums of dw, which scratch holds
// (retort_rms_norm_scratch_* bytes, 64-byte aligned; it may be NULL if dw is). Equal bits. With
// accumulate this is the whole backward of add_rms_norm: dx holds the gradient of the sum.
int64_t retort_rms_norm_scratch_f32(const retort_norm_shape* shape) RETORT_KERNELS_NOEXCEPT;
int64_t retort_rms_norm_scratch_f64(const retort_norm_shape* shape) RETORT_KERNELS_NOEXCEPT;
void retort_rms_norm_backward_fused_f32(const retort_norm_shape* shape, const float* dy,
                                        int64_t dy_stride, const float* x, int64_t x_stride,
                                        const float* w, const float* rstd, float* dx,
                                        int64_t dx_stride, int accumulate, float* dw, void* scratch,
                                        int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_rms_norm_backward_fused_f64(const retort_norm_shape* shape, const double* dy,
                                        int64_t dy_stride, const double* x, int64_t x_stride,
                                        const double* w, const double* rstd, double* dx,
                                        int64_t dx_stride, int accumulate, double* dw,
                                        void* scratch, int n_threads) RETORT_KERNELS_NOEXCEPT;

RETORT_KERNELS_END
#endif  // RETORT_KERNELS_NORM_H_
