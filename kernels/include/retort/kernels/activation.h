// Activations and gated products act(gate) * up. Every output may be any of the inputs.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_KERNELS_ACTIVATION_H_
#define RETORT_KERNELS_ACTIVATION_H_

#include "retort/kernels/base.h"

RETORT_KERNELS_BEGIN

enum {
  RETORT_KERNELS_SILU = 0,
  RETORT_KERNELS_GELU = 1,       // x * Phi(x), by erf
  RETORT_KERNELS_GELU_TANH = 2,  // the tanh approximation
  RETORT_KERNELS_RELU = 3,
};

// y = act(x);  dx = dy * act'(x); n contiguous elements.
void retort_activation_f32(int kind, const float* x, float* y, int64_t n,
                           int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_activation_f64(int kind, const double* x, double* y, int64_t n,
                           int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_activation_backward_f32(int kind, const float* x, const float* dy, float* dx, int64_t n,
                                    int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_activation_backward_f64(int kind, const double* x, const double* dy, double* dx,
                                    int64_t n, int n_threads) RETORT_KERNELS_NOEXCEPT;

typedef struct retort_gated_shape {
  int64_t rows, cols;
  int64_t in_stride;   // of gate and up (and of their gradients); 0: cols
  int64_t out_stride;  // of y (and dy); 0: cols
  int32_t kind;        // RETORT_KERNELS_SILU ...
  int32_t reserved;
} retort_gated_shape;

// y = act(gate) * up;  d_gate = dy * up * act'(gate), d_up = dy * act(gate).
void retort_gated_f32(const retort_gated_shape* shape, const float* gate, const float* up, float* y,
                      int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_gated_f64(const retort_gated_shape* shape, const double* gate, const double* up,
                      double* y, int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_gated_backward_f32(const retort_gated_shape* shape, const float* gate, const float* up,
                               const float* dy, float* d_gate, float* d_up,
                               int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_gated_backward_f64(const retort_gated_shape* shape, const double* gate,
                               const double* up, const double* dy, double* d_gate, double* d_up,
                               int n_threads) RETORT_KERNELS_NOEXCEPT;

// The backward pass that also writes product = act(gate) * up again, [rows, cols] with out_stride:
// for callers who did not keep it. product may be dy, or NULL.
void retort_gated_backward_again_f32(const retort_gated_shape* shape, const float* gate,
                                     const float* up, const float* dy, float* d_gate, float* d_up,
                                     float* product, int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_gated_backward_again_f64(const retort_gated_shape* shape, const double* gate,
                                     const double* up, const double* dy, double* d_gate,
                                     double* d_up, double* product,
                                     int n_threads) RETORT_KERNELS_NOEXCEPT;

RETORT_KERNELS_END
#endif  // RETORT_KERNELS_ACTIVATION_H_
