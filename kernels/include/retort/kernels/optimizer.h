// One pass over parameters, gradients and state; and the norm that clipping needs.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_KERNELS_OPTIMIZER_H_
#define RETORT_KERNELS_OPTIMIZER_H_

#include "retort/kernels/base.h"

RETORT_KERNELS_BEGIN

typedef struct retort_adamw_params {
  double learning_rate, beta1, beta2, eps, weight_decay;
  double bias_correction1;  // 1 - beta1^step, step from 1
  double bias_correction2;  // 1 - beta2^step
  double grad_scale;        // multiplies the gradient (clipping); 1: none
} retort_adamw_params;

// g = grad * grad_scale;  m = b1*m + (1-b1)*g;  v = b2*v + (1-b2)*g^2;  p -= p * lr * weight_decay
// (decoupled);  p -= lr * (m / bias_correction1) / (sqrt(v / bias_correction2) + eps).
void retort_adamw_f32(const retort_adamw_params* params, float* p, const float* grad, float* m,
                      float* v, int64_t n, int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_adamw_f64(const retort_adamw_params* params, double* p, const double* grad, double* m,
                      double* v, int64_t n, int n_threads) RETORT_KERNELS_NOEXCEPT;

// Sum of x^2: f32 lanes inside blocks of 4096, f64 above them, one fixed tree.
// Not finite if an element is not (or if a block overflows f32).
double retort_sum_squares_f32(const float* x, int64_t n, int n_threads) RETORT_KERNELS_NOEXCEPT;
double retort_sum_squares_f64(const double* x, int64_t n, int n_threads) RETORT_KERNELS_NOEXCEPT;

// Many tensors in one call and one parallel region; the elements of all of them are shared out
// evenly over the threads. Bits as of the calls above, one tensor at a time.
typedef struct retort_adamw_tensor_f32 {
  float* p;
  const float* grad;
  float* m;
  float* v;
  int64_t n;
  const retort_adamw_params* params;  // of the tensor's group
} retort_adamw_tensor_f32;
typedef struct retort_adamw_tensor_f64 {
  double* p;
  const double* grad;
  double* m;
  double* v;
  int64_t n;
  const retort_adamw_params* params;
} retort_adamw_tensor_f64;
void retort_adamw_list_f32(const retort_adamw_tensor_f32* tensors, int64_t n_tensors,
                           int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_adamw_list_f64(const retort_adamw_tensor_f64* tensors, int64_t n_tensors,
                           int n_threads) RETORT_KERNELS_NOEXCEPT;

// sums[i] = sum of squares of tensor i, each with the bits of retort_sum_squares_*.
typedef struct retort_tensor_f32 {
  const float* x;
  int64_t n;
} retort_tensor_f32;
typedef struct retort_tensor_f64 {
  const double* x;
  int64_t n;
} retort_tensor_f64;
void retort_sum_squares_list_f32(const retort_tensor_f32* tensors, int64_t n_tensors, double* sums,
                                 int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_sum_squares_list_f64(const retort_tensor_f64* tensors, int64_t n_tensors, double* sums,
                                 int n_threads) RETORT_KERNELS_NOEXCEPT;

// Lion: c = b1*m + (1-b1)*g;  p -= p * lr * weight_decay;  p -= lr * sign(c);  m = b2*m + (1-b2)*g.
typedef struct retort_lion_params {
  double learning_rate, beta1, beta2, weight_decay, grad_scale;
} retort_lion_params;
typedef struct retort_lion_tensor_f32 {
  float* p;
  const float* grad;
  float* m;
  int64_t n;
  const retort_lion_params* params;
} retort_lion_tensor_f32;
void retort_lion_list_f32(const retort_lion_tensor_f32* tensors, int64_t n_tensors,
                          int n_threads) RETORT_KERNELS_NOEXCEPT;

// SGD, linear in everything: p *= keep;  g = grad * grad_scale + l2 * p;
// m = m_keep * m + m_grad * g;  p -= lr * (u_grad * g + u_m * m). m may be NULL (then u_m is 0).
typedef struct retort_sgd_params {
  double learning_rate, grad_scale, keep, l2, m_keep, m_grad, u_grad, u_m;
} retort_sgd_params;
typedef struct retort_sgd_tensor_f32 {
  float* p;
  const float* grad;
  float* m;
  int64_t n;
  const retort_sgd_params* params;
} retort_sgd_tensor_f32;
void retort_sgd_list_f32(const retort_sgd_tensor_f32* tensors, int64_t n_tensors,
                         int n_threads) RETORT_KERNELS_NOEXCEPT;

// Numbers in [-1, 1] (or [0, 1]) as 8-bit codes into sorted values, bitsandbytes' dynamic map
// (arXiv 2110.02861): decade d of 10^-6 .. 10^0 holds the midpoints of 2^d equal cells of
// [.1, 1] * 10^(d-6) (2^(d+1) if unsigned), with both signs if signed; and 0 and 1.
enum { RETORT_CODE_BLOCK = 256, RETORT_CODE_BUCKETS = 24 * 128 + 1 };
typedef struct retort_code_book {
  float values[256];
  // Between the magnitudes c and c + 1 (magnitude 0 is 0); infinite after the last.
  float bounds[256];
  // The least magnitude c that a number can have in a bucket of equal upper 16 bits.
  int32_t least[RETORT_CODE_BUCKETS];
  int32_t zero;           // code of 0
  int32_t most_negative;  // magnitudes below 0
} retort_code_book;
void retort_make_code_book(int is_signed, retort_code_book* book) RETORT_KERNELS_NOEXCEPT;

// AdamW with moments kept as codes times the largest magnitude of each block of 256 elements.
typedef struct retort_adamw8_tensor {
  float* p;
  const float* grad;
  uint8_t* m;
  uint8_t* v;
  float* m_max;  // [ceil(n / 256)]
  float* v_max;
  int64_t n;
  const retort_adamw_params* params;
} retort_adamw8_tensor;
typedef struct retort_code_books {
  retort_code_book m;  // signed
  retort_code_book v;  // unsigned
} retort_code_books;
void retort_adamw8_list(const retort_code_books* books, const retort_adamw8_tensor* tensors,
                        int64_t n_tensors, int n_threads) RETORT_KERNELS_NOEXCEPT;

// Adafactor's passes over a matrix g [rows, cols], contiguous.
typedef struct retort_factored_matrix {
  int64_t rows, cols;
  const float* grad;
} retort_factored_matrix;
// by_row[i] = mean over j of g^2, by_col[j] = mean over i. Bits do not depend on n_threads.
void retort_mean_squares_f32(const retort_factored_matrix* matrix, float* by_row, float* by_col,
                             int n_threads) RETORT_KERNELS_NOEXCEPT;
// The sum of (g[i,j] * by_row[i] * by_col[j])^2. Bits do not depend on n_threads.
double retort_factored_squares_f32(const retort_factored_matrix* matrix, const float* by_row,
                                   const float* by_col, int n_threads) RETORT_KERNELS_NOEXCEPT;
// p[i,j] = p[i,j] * keep - scale * (g[i,j] * by_row[i] * by_col[j]).
void retort_factored_update_f32(const retort_factored_matrix* matrix, const float* by_row,
                                const float* by_col, double keep, double scale, float* p,
                                int n_threads) RETORT_KERNELS_NOEXCEPT;

RETORT_KERNELS_END
#endif  // RETORT_KERNELS_OPTIMIZER_H_
