// The kernels of loss/kd by element type, in the calling thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "retort/kernels/distill.h"
#include "retort/kernels/softmax.h"

namespace retort::kd {

inline void KdRows(const retort_kd_shape& shape, float* student, const float* teacher,
                   const int64_t* labels, const float* weight, float* divergence, float* nll,
                   float* entropy) {
  retort_kd_rows_f32(&shape, student, teacher, labels, weight, divergence, nll, entropy, 1);
}
inline void KdRows(const retort_kd_shape& shape, double* student, const double* teacher,
                   const int64_t* labels, const double* weight, double* divergence, double* nll,
                   double* entropy) {
  retort_kd_rows_f64(&shape, student, teacher, labels, weight, divergence, nll, entropy, 1);
}

// x[c] becomes share_t * exp(x[c] / temperature - lse_t) + share * exp(x[c] - lse).
inline void SoftmaxMix(float* x, int64_t n, double temperature, float lse_t, float share_t,
                       float lse, float share) {
  retort_softmax_mix_f32(x, n, 1, n, temperature, &lse_t, &share_t, &lse, &share, 1);
}
inline void SoftmaxMix(double* x, int64_t n, double temperature, double lse_t, double share_t,
                       double lse, double share) {
  retort_softmax_mix_f64(x, n, 1, n, temperature, &lse_t, &share_t, &lse, &share, 1);
}

inline float LogSumExp(const float* x, int64_t n, double scale) {
  float lse = 0;
  retort_row_logsumexp_f32(x, n, 1, n, scale, &lse, 1);
  return lse;
}
inline double LogSumExp(const double* x, int64_t n, double scale) {
  double lse = 0;
  retort_row_logsumexp_f64(x, n, 1, n, scale, &lse, 1);
  return lse;
}

inline int32_t Argmax(const float* x, int64_t n) {
  int32_t index = 0;
  retort_row_argmax_f32(x, n, 1, n, &index, nullptr, 1);
  return index;
}
inline int32_t Argmax(const double* x, int64_t n) {
  int32_t index = 0;
  retort_row_argmax_f64(x, n, 1, n, &index, nullptr, 1);
  return index;
}

}  // namespace retort::kd
