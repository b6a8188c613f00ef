// Rows of distillation: divergence between two softmaxes and its gradient.
// Method: log-probabilities are differences to the maximum, so a row needs passes for the maxima,
// the sums, for JSD and total variation its means, and the gradient; exponentials are worked out
// again instead of being stored (the teacher's row is not ours, and a row is in a cache by then).
// Sums run over lanes within kSoftmaxBlock columns and in f64 above, as in softmax.cc. Columns
// without mass add nothing, whatever their logarithm.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/levels/levels.h"

namespace retort::kernels::RETORT_KERNELS_NS {

template <class V>
static V Splat(double x) {
  return V::Set1(static_cast<ScalarOf<V>>(x));
}

// Missing lanes count as -inf: no mass.
template <class V>
static inline V Logits(const ScalarOf<V>* x, Full) {
  return V::Load(x);
}
template <class V>
static inline V Logits(const ScalarOf<V>* x, int64_t n) {
  ScalarOf<V> lanes[16];
  for (ScalarOf<V>& lane : lanes) lane = -static_cast<ScalarOf<V>>(INFINITY);
  memcpy(lanes, x, static_cast<size_t>(n) * sizeof(lanes[0]));
  return V::Load(lanes);
}

template <class V>
static ScalarOf<V> Largest(const ScalarOf<V>* x, int64_t cols) {
  V top = V::Set1(-static_cast<ScalarOf<V>>(INFINITY));
  ForLanes(cols, [&](int64_t c, auto n) { top = Max(Logits<V>(x + c, n), top); });
  return MaxAll(top);
}

// value where mass > 0, else 0.
template <class V>
static inline V WhereMass(V mass, V value) {
  return BlendLess(V::Zero(), mass, value, V::Zero());
}

// log(1 + w) for -1 < w <= 0. f32: 2 atanh(z) as a series, |z| <= 1/3 after `roots` square roots.
[[maybe_unused]] static inline F16 LogOnePlus(F16 w, int roots) {
  const F16 one = F16::Set1(1.0f);
  F16 x = w + one, less = w;
  for (int i = 0; i < roots; ++i) {
    x = Sqrt(x);
    less = x - one;
  }
  const F16 z = less / (x + one), y = z * z;
  F16 sum = F16::Set1(2.0f / 13);
  for (int k = 11; k >= 1; k -= 2) sum = Fma(sum, y, F16::Set1(2.0f / static_cast<float>(k)));
  return sum * z * F16::Set1(static_cast<float>(1 << roots));
}
static int RootsFor(const retort_kd_shape& shape) {
  if (shape.divergence != RETORT_KERNELS_JSD) return 0;
  const double beta = shape.jsd_beta;
  int roots = 0;
  for (double least = beta < 0.5 ? beta : 1 - beta; least < 0.5; least = sqrt(least)) ++roots;
  return roots;
}
#if RETORT_KERNELS_LEVEL == 0
static inline D16 LogOnePlus(const D16& w, int) {
  return Map(w, w, [](double x, double) { return log1p(x); });
}
#endif

template <class V>
struct KdRow {
  using S = ScalarOf<V>;
  const retort_kd_shape& shape;
  const S* student;
  const S* teacher;
  double student_max, teacher_max;
  double student_total = 0, teacher_total = 0, cross = 0, plain_total = 0;
  double teacher_logits = 0;  // sum of e_teacher * teacher
  // JSD: of log(q / M), log(p / M). Total variation: sum of |q - p|, sum of q sign(q - p).
  double student_mean = 0, teacher_mean = 0;
  double distance = 0, student_sign = 0;

  KdRow(const retort_kd_shape& s, const S* student_row, const S* teacher_row)
      : shape(s),
        student(student_row),
        teacher(teacher_row),
        student_max(static_cast<double>(Largest<V>(student_row, s.cols))),
        teacher_max(static_cast<double>(Largest<V>(teacher_row, s.cols))) {}

  // What the passes see of a vector: logits less the maximum, over T, and their exponentials.
  struct Lanes {
    V x, student, teacher, e_student, e_teacher;
  };
  template <class Part>
  Lanes At(int64_t c, Part n) const {
    const V rate = Splat<V>(1 / shape.temperature);
    Lanes l;
    l.x = Logits<V>(student + c, n) - Splat<V>(student_max);
    l.student = l.x * rate;
    l.teacher = (Logits<V>(teacher + c, n) - Splat<V>(teacher_max)) * rate;
    l.e_student = Exp(l.student);
    l.e_teacher = Exp(l.teacher);
    return l;
  }
  // Adds to N totals what add(lanes, sums) adds, over all columns: in f32 within a block, f64
  // above.
  template <int N, class Add>
  void Sums(double* const (&totals)[N], Add add) const {
    for (int64_t first = 0; first < shape.cols; first += kSoftmaxBlock) {
      const int64_t rest = shape.cols - first, count = rest < kSoftmaxBlock ? rest : kSoftmaxBlock;
      V sums[N];
      for (V& sum : sums) sum = V::Zero();
      ForLanes(count, [&](int64_t i, auto n) { add(At(first + i, n), sums); });
      for (int k = 0; k < N; ++k) *totals[k] += static_cast<double>(Sum(sums[k]));
    }
  }

  template <bool kForward, bool kWantEntropy>
  void Totals() {
    Sums<4>({&student_total, &teacher_total, &cross, &teacher_logits},
            [&](const Lanes& l, V* sums) {
              sums[0] = sums[0] + l.e_student;
              sums[1] = sums[1] + l.e_teacher;
              const V mass = kForward ? l.e_teacher : l.e_student;
              const V ratio = kForward ? l.teacher - l.student : l.student - l.teacher;
              sums[2] = sums[2] + WhereMass(mass, mass * ratio);
              if constexpr (kWantEntropy) {
                sums[3] = sums[3] + WhereMass(l.e_teacher, l.e_teacher * l.teacher);
              }
            });
  }
  void AllTotals(bool want_entropy) {
    const bool forward = shape.divergence == RETORT_KERNELS_FORWARD_KL;
    if (want_entropy) {
      forward ? Totals<true, true>() : Totals<false, true>();
    } else {
      forward ? Totals<true, false>() : Totals<false, false>();
    }
  }
  void PlainTotal() {  // at temperature 1
    Sums<1>({&plain_total}, [](const Lanes& l, V* sums) { sums[0] = sums[0] + Exp(l.x); });
  }

  // log(q / M) and log(p / M) of a vector, from d = log p - log q by log(b + (1 - b) e^-|d|).
  void Mixture(const Lanes& l, int roots, V* log_q, V* log_p) const {
    const double beta = shape.jsd_beta;
    const V zero = V::Zero(), one = Splat<V>(1);
    const V d = l.teacher - l.student + Splat<V>(log(student_total) - log(teacher_total));
    const V size = Max(zero - d, d), share = BlendLess(zero, d, Splat<V>(1 - beta), Splat<V>(beta));
    const V u = LogOnePlus(share * (Exp(zero - size) - one), roots);
    *log_q = BlendLess(zero, d, zero - u - d, zero - u);
    *log_p = BlendLess(zero, d, zero - u, d - u);
  }
  void Means() {
    const int roots = RootsFor(shape);
    Sums<2>({&student_mean, &teacher_mean}, [&](const Lanes& l, V* sums) {
      V log_q, log_p;
      Mixture(l, roots, &log_q, &log_p);
      sums[0] = sums[0] + WhereMass(l.e_student, l.e_student * log_q);
      sums[1] = sums[1] + WhereMass(l.e_teacher, l.e_teacher * log_p);
    });
    student_mean /= student_total;
    teacher_mean /= teacher_total;
  }

  // sign(q - p), and the two masses.
  V Sign(const Lanes& l, V* q, V* p) const {
    const V zero = V::Zero();
    *q = l.e_student * Splat<V>(1 / student_total);
    *p = l.e_teacher * Splat<V>(1 / teacher_total);
    return BlendLess(*p, *q, Splat<V>(1), BlendLess(*q, *p, Splat<V>(-1), zero));
  }
  void Distance() {
    Sums<2>({&distance, &student_sign}, [&](const Lanes& l, V* sums) {
      V q, p;
      const V sign = Sign(l, &q, &p);
      sums[0] = sums[0] + sign * (q - p);
      sums[1] = sums[1] + sign * q;
    });
  }

  double Divergence() const {
    const double normalisers = log(student_total) - log(teacher_total);
    switch (shape.divergence) {
      case RETORT_KERNELS_FORWARD_KL: return cross / teacher_total + normalisers;
      case RETORT_KERNELS_REVERSE_KL: return cross / student_total - normalisers;
      case RETORT_KERNELS_TOTAL_VARIATION: return distance / 2;
      default: return shape.jsd_beta * teacher_mean + (1 - shape.jsd_beta) * student_mean;
    }
  }

  double TeacherEntropy() const { return log(teacher_total) - teacher_logits / teacher_total; }

  // T dd/dz of a vector.
  template <int kDivergence>
  V Slope(const Lanes& l, int roots) const {
    const V q = l.e_student * Splat<V>(1 / student_total);
    if constexpr (kDivergence == RETORT_KERNELS_FORWARD_KL) {
      return q - l.e_teacher * Splat<V>(1 / teacher_total);
    } else if constexpr (kDivergence == RETORT_KERNELS_REVERSE_KL) {
      const V rest = Splat<V>(cross / student_total);  // log(q / p) - d
      return WhereMass(l.e_student, q * (l.student - l.teacher - rest));
    } else if constexpr (kDivergence == RETORT_KERNELS_TOTAL_VARIATION) {
      V mass, p;
      const V sign = Sign(l, &mass, &p);
      return Splat<V>(0.5) * q * (sign - Splat<V>(student_sign));
    } else {
      V log_q, log_p;
      Mixture(l, roots, &log_q, &log_p);
      const V share = Splat<V>(1 - shape.jsd_beta);
      return WhereMass(l.e_student, share * q * (log_q - Splat<V>(student_mean)));
    }
  }
  template <int kDivergence>
  void GradientOf(double kd, double ce, S* gradient) const {
    const int roots = RootsFor(shape);
    const V kd_scale = Splat<V>(kd / shape.temperature);
    const V ce_scale = Splat<V>(ce == 0 ? 0 : ce / plain_total);
    ForLanes(shape.cols, [&](int64_t c, auto n) {
      const Lanes l = At(c, n);
      V g = kd_scale * Slope<kDivergence>(l, roots);
      if (ce != 0) g = Fma(ce_scale, Exp(l.x), g);
      StoreAt(gradient + c, g, n);
    });
  }
  // gradient may be the student's row.
  void Gradient(double kd, double ce, S* gradient) const {
    switch (shape.divergence) {
      case RETORT_KERNELS_FORWARD_KL:
        return GradientOf<RETORT_KERNELS_FORWARD_KL>(kd, ce, gradient);
      case RETORT_KERNELS_REVERSE_KL:
        return GradientOf<RETORT_KERNELS_REVERSE_KL>(kd, ce, gradient);
      case RETORT_KERNELS_TOTAL_VARIATION:
        return GradientOf<RETORT_KERNELS_TOTAL_VARIATION>(kd, ce, gradient);
      default: return GradientOf<RETORT_KERNELS_JSD>(kd, ce, gradient);
    }
  }
};

template <class V>
void Distill<V>::Rows(const KdArgs<S>& a, int64_t begin, int64_t end) {
  const retort_kd_shape& shape = a.shape;
  for (int64_t r = begin; r < end; ++r) {
    S* const x = a.student + r * shape.student_stride;
    const double weight = a.weight != nullptr ? static_cast<double>(a.weight[r]) : 1;
    const int64_t label = a.labels != nullptr ? a.labels[r] : -1;
    KdRow<V> row(shape, x, a.teacher + r * shape.teacher_stride);
    row.AllTotals(a.teacher_entropy != nullptr);
    if (shape.divergence == RETORT_KERNELS_JSD) row.Means();
    if (shape.divergence == RETORT_KERNELS_TOTAL_VARIATION) row.Distance();
    const bool plain = label >= 0 && (shape.ce_scale != 0 || a.nll != nullptr);
    if (plain) row.PlainTotal();
    if (a.divergence != nullptr) a.divergence[r] = static_cast<S>(row.Divergence());
    if (a.teacher_entropy != nullptr) {
      a.teacher_entropy[r] = static_cast<S>(row.TeacherEntropy());
    }
    if (a.nll != nullptr) {
      const double nll =
          plain ? row.student_max + log(row.plain_total) - static_cast<double>(x[label]) : 0;
      a.nll[r] = static_cast<S>(nll);
    }
    if (weight == 0) {
      memset(x, 0, static_cast<size_t>(shape.cols) * sizeof(S));
      continue;
    }
    const double ce = plain ? weight * shape.ce_scale : 0;
    row.Gradient(weight * shape.kd_scale, ce, x);
    if (ce != 0) x[label] -= static_cast<S>(ce);
  }
}

template <class V>
void Distill<V>::SoftmaxMix(const SoftmaxMixArgs<S>& a, int64_t begin, int64_t end) {
  const V rate = Splat<V>(1 / a.temperature);
  for (int64_t r = begin; r < end; ++r) {
    S* const x = a.x + r * a.stride;
    const V lse_t = V::Set1(a.lse_t[r]), share_t = V::Set1(a.share_t[r]);
    const bool plain = a.share != nullptr && a.share[r] != 0;
    const V lse = V::Set1(plain ? a.lse[r] : S{0}), share = V::Set1(plain ? a.share[r] : S{0});
    ForLanes(a.cols, [&](int64_t c, auto n) {
      const V z = Logits<V>(x + c, n);
      V y = share_t * Exp(z * rate - lse_t);
      if (plain) y = Fma(share, Exp(z - lse), y);
      StoreAt(x + c, y, n);
    });
  }
}

RETORT_KERNELS_EMIT(Distill);

}  // namespace retort::kernels::RETORT_KERNELS_NS
