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

RETORT_KERNELS_END
#endif  // RETORT_KERNELS_OPTIMIZER_H_
