// Divergence of two distributions over a few classes, in f64: the teacher's top-k and its tail.
// Masses needn't sum to 1, as where the tail is dropped.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <limits>
#include <span>

#include "retort/kernels/distill.h"

namespace retort::kd {

struct Class {
  double log_p = 0, log_q = 0;  // teacher, student
  double logit = 0;             // the student's, of a class of one column
  double slope = 0;             // out: q * dd/dq
};

inline double LogAddExp(double a, double b) {
  const double top = std::fmax(a, b), low = std::fmin(a, b);
  return std::isinf(top) ? top : top + std::log1p(std::exp(low - top));
}

// One class' part of d; sets its slope. A class without mass on the side that is averaged over has
// no part.
inline double ClassPart(int32_t divergence, double beta, Class& c) {
  const double p = std::exp(c.log_p), q = std::exp(c.log_q);
  c.slope = 0;
  switch (divergence) {
    case RETORT_KERNELS_FORWARD_KL: c.slope = -p; return p > 0 ? p * (c.log_p - c.log_q) : 0;
    case RETORT_KERNELS_REVERSE_KL:
      if (q == 0) return 0;
      c.slope = q * (c.log_q - c.log_p + 1);
      return q * (c.log_q - c.log_p);
    case RETORT_KERNELS_TOTAL_VARIATION:
      c.slope = q > p ? q / 2 : q < p ? -q / 2 : 0;
      return std::abs(q - p) / 2;
    default: break;
  }
  const double log_m = LogAddExp(std::log(beta) + c.log_p, std::log1p(-beta) + c.log_q);
  if (q > 0) c.slope = (1 - beta) * q * (c.log_q - log_m);
  return (p > 0 ? beta * p * (c.log_p - log_m) : 0) + c.slope;
}

// d, and in each class q * dd/dq.
inline double ClassDivergence(int32_t divergence, double beta, std::span<Class> classes) {
  double sum = 0;
  for (Class& c : classes) sum += ClassPart(divergence, beta, c);
  return sum;
}

// Both sides become distributions over these classes.
inline void Renormalise(std::span<Class> classes) {
  double p = -std::numeric_limits<double>::infinity(), q = p;
  for (const Class& c : classes) {
    p = LogAddExp(p, c.log_p);
    q = LogAddExp(q, c.log_q);
  }
  for (Class& c : classes) {
    c.log_p -= p;
    c.log_q -= q;
  }
}

inline double TeacherEntropy(std::span<const Class> classes) {
  double sum = 0;
  for (const Class& c : classes) {
    if (const double p = std::exp(c.log_p); p > 0) sum -= p * c.log_p;
  }
  return sum;
}

}  // namespace retort::kd
