// Rows of student logits against rows of teacher logits over the same vocabulary: divergence of
// the two distributions and its gradient, optionally with the cross-entropy, in place.
// With p = softmax(teacher / T), q = softmax(student / T), M = beta * p + (1 - beta) * q:
//   FORWARD_KL  d = sum p log(p / q)                       T dd/dz = q - p
//   REVERSE_KL  d = sum q log(q / p)                       T dd/dz = q (log(q / p) - d)
//   JSD         d = beta KL(p||M) + (1 - beta) KL(q||M)    T dd/dz = (1 - beta) q (log(q / M) -
//                                                                    sum q log(q / M))
//   TOTAL_VARIATION  d = sum |q - p| / 2                   T dd/dz = q (s - sum q s) / 2,
//                                                                    s = sign(q - p)
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_KERNELS_DISTILL_H_
#define RETORT_KERNELS_DISTILL_H_

#include "retort/kernels/base.h"

RETORT_KERNELS_BEGIN

enum {
  RETORT_KERNELS_FORWARD_KL = 0,
  RETORT_KERNELS_REVERSE_KL = 1,
  RETORT_KERNELS_JSD = 2,
  RETORT_KERNELS_TOTAL_VARIATION = 3,
};

typedef struct retort_kd_shape {
  int64_t rows, cols;
  int64_t student_stride, teacher_stride;  // 0: cols
  int32_t divergence;                      // RETORT_KERNELS_FORWARD_KL ...
  int32_t reserved;
  double temperature;  // > 0
  double jsd_beta;     // 0 < beta < 1; for JSD only
  double kd_scale;     // factor of d in the gradient (alpha * T^2, say)
  double ce_scale;     // factor of the cross-entropy in the gradient; 0: labels are not read
} retort_kd_shape;

// student becomes weight[r] * (kd_scale * dd/dz + ce_scale * dnll/dz), nll = lse(z) - z[label] at
// temperature 1. A row with a negative label has no cross-entropy (and nll 0). Outputs [rows] are
// unscaled and unweighted, and may be NULL (teacher_entropy: of p, in nats); labels may be NULL if
// ce_scale is 0; weight NULL: 1, weight 0 clears the row (and costs no gradient).
// Student logits of -inf give that column no mass; a teacher's likewise (reverse KL is then +inf
// where the student has mass, as the formula says).
void retort_kd_rows_f32(const retort_kd_shape* shape, float* student, const float* teacher,
                        const int64_t* labels, const float* weight, float* divergence, float* nll,
                        float* teacher_entropy, int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_kd_rows_f64(const retort_kd_shape* shape, double* student, const double* teacher,
                        const int64_t* labels, const double* weight, double* divergence,
                        double* nll, double* teacher_entropy,
                        int n_threads) RETORT_KERNELS_NOEXCEPT;

// In place: x[r,c] becomes share_t[r] * exp(x[r,c] / temperature - lse_t[r]) + share[r] *
// exp(x[r,c] - lse[r]), the gradient of a loss that looks at few columns, in all the others.
// share (and then lse) may be NULL: no second term. Columns of -inf become 0.
void retort_softmax_mix_f32(float* x, int64_t x_stride, int64_t rows, int64_t cols,
                            double temperature, const float* lse_t, const float* share_t,
                            const float* lse, const float* share,
                            int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_softmax_mix_f64(double* x, int64_t x_stride, int64_t rows, int64_t cols,
                            double temperature, const double* lse_t, const double* share_t,
                            const double* lse, const double* share,
                            int n_threads) RETORT_KERNELS_NOEXCEPT;

RETORT_KERNELS_END
#endif  // RETORT_KERNELS_DISTILL_H_
