// Element by element over n contiguous elements (outputs may be any of the inputs), and the plain
// row operations: bias, column sums, embedding.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_KERNELS_ELEMENTWISE_H_
#define RETORT_KERNELS_ELEMENTWISE_H_

#include "retort/kernels/base.h"

RETORT_KERNELS_BEGIN

// y = a + b;  y = a * b;  y = x * scale;  y += x * scale
void retort_add_f32(const float* a, const float* b, float* y, int64_t n,
                    int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_add_f64(const double* a, const double* b, double* y, int64_t n,
                    int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_mul_f32(const float* a, const float* b, float* y, int64_t n,
                    int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_mul_f64(const double* a, const double* b, double* y, int64_t n,
                    int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_scale_f32(const float* x, double scale, float* y, int64_t n,
                      int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_scale_f64(const double* x, double scale, double* y, int64_t n,
                      int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_axpy_f32(const float* x, double scale, float* y, int64_t n,
                     int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_axpy_f64(const double* x, double scale, double* y, int64_t n,
                     int n_threads) RETORT_KERNELS_NOEXCEPT;

// y[r,:] += bias;  out[c] += sum over rows of x[r,c] (a bias gradient).
void retort_add_bias_f32(float* y, int64_t y_stride, const float* bias, int64_t rows, int64_t cols,
                         int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_add_bias_f64(double* y, int64_t y_stride, const double* bias, int64_t rows,
                         int64_t cols, int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_col_sum_f32(const float* x, int64_t x_stride, float* out, int64_t rows, int64_t cols,
                        int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_col_sum_f64(const double* x, int64_t x_stride, double* out, int64_t rows, int64_t cols,
                        int n_threads) RETORT_KERNELS_NOEXCEPT;

// y[r,:] = table[ids[r],:] * scale;  d_table[ids[r],:] += dy[r,:] * scale, rows in order.
void retort_embed_f32(const float* table, const int32_t* ids, double scale, float* y, int64_t rows,
                      int64_t cols, int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_embed_f64(const double* table, const int32_t* ids, double scale, double* y,
                      int64_t rows, int64_t cols, int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_embed_backward_f32(const float* dy, const int32_t* ids, double scale, float* d_table,
                               int64_t rows, int64_t cols, int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_embed_backward_f64(const double* dy, const int32_t* ids, double scale, double* d_table,
                               int64_t rows, int64_t cols, int n_threads) RETORT_KERNELS_NOEXCEPT;

RETORT_KERNELS_END
#endif  // RETORT_KERNELS_ELEMENTWISE_H_
