// One row against a teacher of whom only the K likeliest tokens and the mass of the rest are known.
// Classes are those K columns, and with `bucket` all other columns as one. With z the student's
// logits, q = softmax(z / T), h the slopes q_k * dd/dq_k of the classes and H their sum:
//   T dd/dz_j = h_j - q_j H              j one of the K columns
//             = (h_tail / q_tail - H) q_j    j any other
// The mass of the other columns is summed over them, not 1 less the rest: exact however small.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

#include "classes.h"
#include "kernels.h"

namespace retort::kd {

enum class Tail { kBucket, kRenormalize, kDrop };

// The least that a teacher's tail is taken for: its K entries may sum to 1 after rounding.
inline constexpr double kLogLeastTail = -16.11809565095832;  // log 1e-7

struct TopKInputs {
  int32_t divergence = 0;
  double beta = 0, temperature = 1;
  Tail tail = Tail::kBucket;
  double kd = 0, ce = 0;  // factors of the gradients of d and of the cross-entropy
  bool want_grad = false, want_nll = false;
  std::span<const int32_t> ids;  // unused: -1
  const float* log_p = nullptr;  // of ids
  double log_tail = 0;
  int64_t label = -1;
};

// Works on z [V], the student's logits, which become the gradient, or garbage.
template <class T>
class TopKRow {
 public:
  // What it found, before weights.
  double divergence = 0, nll = 0, teacher_entropy = 0;
  int32_t teacher_best = -1;

  // classes: room for ids + 1.
  TopKRow(const TopKInputs& in, T* z, int64_t vocab, Class* classes)
      : in_(in), z_(z), vocab_(vocab), rate_(1 / in.temperature), classes_(classes) {
    const double label_logit = in.label >= 0 ? double{z[in.label]} : 0;
    SetAside();
    Normalise();
    if (in.label >= 0) nll = lse_ - label_logit;
    const std::span<Class> all(classes_, n_ + (bucket_ ? 1 : 0));
    if (in.tail == Tail::kRenormalize) Renormalise(all);
    divergence = ClassDivergence(in.divergence, in.beta, all);
    teacher_entropy = TeacherEntropy(all);
    if (in.want_grad) Gradient(all);
  }

 private:
  // Takes the K columns out of the row, so that what is left of it is the tail.
  void SetAside() {
    double best = kNone;
    for (size_t k = 0; k < in_.ids.size(); ++k) {
      const int32_t id = in_.ids[k];
      if (id < 0) continue;
      Class& c = classes_[n_++] = {.log_p = double{in_.log_p[k]}, .logit = double{z_[id]}};
      if (c.log_p > best) {
        teacher_best = id;
        best = c.log_p;
      }
      z_[id] = static_cast<T>(kNone);
    }
    has_tail_ = static_cast<int64_t>(n_) < vocab_;
    bucket_ = in_.tail == Tail::kBucket && has_tail_;
  }

  double LogSum(double rate) const {
    double sum = has_tail_ ? double{LogSumExp(z_, vocab_, rate)} : kNone;
    for (size_t i = 0; i < n_; ++i) sum = LogAddExp(sum, classes_[i].logit * rate);
    return sum;
  }
  void Normalise() {
    tail_t_ = has_tail_ ? double{LogSumExp(z_, vocab_, rate_)} : 0;
    double lse_t = has_tail_ ? tail_t_ : kNone;
    for (size_t i = 0; i < n_; ++i) lse_t = LogAddExp(lse_t, classes_[i].logit * rate_);
    for (size_t i = 0; i < n_; ++i) classes_[i].log_q = classes_[i].logit * rate_ - lse_t;
    log_q_tail_ = has_tail_ ? tail_t_ - lse_t : kNone;
    if (bucket_) {
      classes_[n_] = {.log_p = std::fmax(in_.log_tail, kLogLeastTail), .log_q = log_q_tail_};
    }
    if (in_.want_nll) lse_ = rate_ == 1 ? lse_t : LogSum(1);
  }

  void Gradient(std::span<const Class> all) {
    double slopes = 0;
    for (const Class& c : all) slopes += c.slope;
    const double kd = in_.kd * rate_, ce = in_.want_nll ? in_.ce : 0;
    // Of all other columns together, in shares of exp(z / T - tail_t).
    double rest = 0;
    if (has_tail_ && in_.tail != Tail::kRenormalize) {
      rest = kd * ((bucket_ ? all.back().slope : 0) - std::exp(log_q_tail_) * slopes);
    }
    SoftmaxMix(z_, vocab_, in_.temperature, static_cast<T>(tail_t_), static_cast<T>(rest),
               static_cast<T>(lse_), static_cast<T>(ce));
    const Class* c = classes_;
    for (const int32_t id : in_.ids) {
      if (id < 0) continue;
      const double plain = ce != 0 ? ce * std::exp(c->logit - lse_) : 0;
      z_[id] = static_cast<T>(kd * (c->slope - std::exp(c->log_q) * slopes) + plain);
      ++c;
    }
    if (ce != 0 && in_.label >= 0) z_[in_.label] -= static_cast<T>(ce);
  }

  static constexpr double kNone = -std::numeric_limits<double>::infinity();
  const TopKInputs& in_;
  T* z_;
  int64_t vocab_;
  double rate_;
  Class* classes_;
  size_t n_ = 0;  // of the K that are used
  bool has_tail_ = false, bucket_ = false;
  double tail_t_ = 0, log_q_tail_ = 0;  // log sum of exp(z / T) over the other columns; of q
  double lse_ = 0;                      // of the whole row at T = 1
};

}  // namespace retort::kd
