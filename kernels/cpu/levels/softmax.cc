// Reductions over rows of logits and the cross-entropy. Sums of exponentials run over 16 lanes
// within blocks of kSoftmaxBlock columns and in f64 over the blocks.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/levels/levels.h"

namespace retort::kernels::RETORT_KERNELS_NS {

template <class V>
static ScalarOf<V> RowMax(const ScalarOf<V>* x, int64_t cols) {
  using S = ScalarOf<V>;
  V m = V::Set1(-static_cast<S>(INFINITY));
  const int64_t whole = cols / 16 * 16;
  for (int64_t c = 0; c < whole; c += 16) m = Max(V::Load(x + c), m);  // a NaN never enters m
  S best = MaxAll(m);
  for (int64_t c = whole; c < cols; ++c) best = x[c] > best ? x[c] : best;
  return best;
}

// Calls per_vector(column, n, d = scale * (x - max), e = exp(d)); returns the sum of e. The lanes
// past the last column have x = 0 and are left out of the sum.
template <class V, class PerVector>
static double SumExp(const ScalarOf<V>* x, int64_t cols, double scale, double max,
                     PerVector per_vector) {
  using S = ScalarOf<V>;
  const V shift = V::Set1(static_cast<S>(max)), factor = V::Set1(static_cast<S>(scale));
  double total = 0;
  for (int64_t first = 0; first < cols; first += kSoftmaxBlock) {
    const int64_t count = cols - first < kSoftmaxBlock ? cols - first : kSoftmaxBlock;
    V sum = V::Zero();
    ForLanes(
        count,
        [&](int64_t i, Full full) {
          const V d = (V::Load(x + first + i) - shift) * factor;
          const V e = Exp(d);
          sum = sum + e;
          per_vector(first + i, full, d, e);
        },
        [&](int64_t i, int64_t n) {
          const V d = (V::LoadPart(x + first + i, n) - shift) * factor;
          S lanes[16];
          Exp(d).Store(lanes);
          const V e = V::LoadPart(lanes, n);
          sum = sum + e;
          per_vector(first + i, n, d, e);
        });
    total += static_cast<double>(Sum(sum));
  }
  return total;
}

// What a row needs: its maximum, the sum of exp(scale * (x - max)), and if asked the entropy.
struct RowStats {
  double max, total, entropy;
  double LogSumExp(double scale) const { return scale * max + log(total); }
};

template <class V>
static RowStats Stats(const ScalarOf<V>* x, int64_t cols, double scale, bool want_entropy) {
  RowStats s{static_cast<double>(RowMax<V>(x, cols)), 0, 0};
  if (!want_entropy) {
    s.total = SumExp<V>(x, cols, scale, s.max, [](int64_t, auto, V, V) {});
    return s;
  }
  double weighted = 0;
  // e = 0 (also at x = -inf, where e * d would be NaN) adds nothing.
  s.total = SumExp<V>(x, cols, scale, s.max, [&](int64_t, auto, V d, V e) {
    weighted += static_cast<double>(Sum(BlendLess(V::Zero(), e, e * d, V::Zero())));
  });
  s.entropy = log(s.total) - weighted / s.total;
  return s;
}

template <class V>
void Softmax<V>::LogSumExp(const RowsArgs<S>& a, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const RowStats s = Stats<V>(a.x + r * a.stride, a.cols, a.scale, false);
    a.out[r] = static_cast<S>(s.LogSumExp(a.scale));
  }
}

template <class V>
static int64_t FirstEqual(const ScalarOf<V>* x, int64_t cols, ScalarOf<V> value) {
  const V v = V::Set1(value);
  int64_t c = 0;
  while (c + 16 <= cols && !AnyEqual(V::Load(x + c), v)) c += 16;
  for (; c < cols; ++c) {
    if (x[c] == value) return c;
  }
  return 0;
}

template <class V>
void Softmax<V>::ArgMax(const RowsArgs<S>& a, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const S* x = a.x + r * a.stride;
    const S best = RowMax<V>(x, a.cols);
    a.arg[r] = static_cast<int32_t>(FirstEqual<V>(x, a.cols, best));
    if (a.out != nullptr) a.out[r] = best;
  }
}

template <class V>
void Softmax<V>::LogP(const RowsArgs<S>& a, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const S* x = a.x + r * a.stride;
    const RowStats s = Stats<V>(x, a.cols, a.scale, a.entropy != nullptr);
    const int64_t y = a.index[r];
    a.out[r] =
        y < 0 ? S(0) : static_cast<S>(a.scale * (static_cast<double>(x[y]) - s.max) - log(s.total));
    if (a.entropy != nullptr) a.entropy[r] = static_cast<S>(s.entropy);
  }
}

// p log p is 0 where p is, also at x = -inf.
template <class V>
void Softmax<V>::LogPBackward(const LogPBackwardArgs<S>& a, int64_t begin, int64_t end) {
  const double scale = a.shape.scale;
  for (int64_t r = begin; r < end; ++r) {
    S* x = a.x + r * a.shape.stride;
    const int64_t y = a.index[r];
    if (y < 0) {
      memset(x, 0, static_cast<size_t>(a.shape.cols) * sizeof(S));
      continue;
    }
    const double d_logp = static_cast<double>(a.d_logp[r]);
    const double d_entropy = a.d_entropy != nullptr ? static_cast<double>(a.d_entropy[r]) : 0;
    const double entropy = d_entropy != 0 ? static_cast<double>(a.entropy[r]) : 0;
    const double lse = scale * static_cast<double>(x[y]) - static_cast<double>(a.logp[r]);
    const V factor = V::Set1(static_cast<S>(scale)), shift = V::Set1(static_cast<S>(lse));
    const V by_logp = V::Set1(static_cast<S>(-scale * d_logp));
    const V by_entropy = V::Set1(static_cast<S>(-scale * d_entropy));
    const V h = V::Set1(static_cast<S>(entropy));
    ForLanes(a.shape.cols, [&](int64_t c, auto n) {
      const V log_p = LoadAt<V>(x + c, n) * factor - shift;
      const V p = Exp(log_p);
      const V p_log_p = BlendLess(V::Zero(), p, p * (log_p + h), V::Zero());
      StoreAt(x + c, p * by_logp + p_log_p * by_entropy, n);
    });
    x[y] += static_cast<S>(scale * d_logp);
  }
}

template <class V>
static double RowMean(const ScalarOf<V>* x, int64_t cols) {
  double sum = 0;
  for (int64_t first = 0; first < cols; first += kSoftmaxBlock) {
    const int64_t count = cols - first < kSoftmaxBlock ? cols - first : kSoftmaxBlock;
    V lanes = V::Zero();
    ForLanes(count, [&](int64_t i, auto n) { lanes = lanes + LoadAt<V>(x + first + i, n); });
    sum += static_cast<double>(Sum(lanes));
  }
  return sum / static_cast<double>(cols);
}

// One row, label >= 0: exponentials over the logits, then the scaling that makes them a gradient.
template <class V>
static void CrossEntropyRow(const CrossEntropyArgs<ScalarOf<V>>& a, int64_t r, ScalarOf<V>* x,
                            double weight) {
  using S = ScalarOf<V>;
  const int64_t cols = a.shape.cols, y = a.labels[r];
  const double smoothing = a.shape.label_smoothing, z_loss = a.shape.z_loss;
  const double max = static_cast<double>(RowMax<V>(x, cols)), target = static_cast<double>(x[y]);
  const double mean = smoothing != 0 ? RowMean<V>(x, cols) : 0;
  const bool want_entropy = a.entropy != nullptr;
  double weighted = 0;
  const double total = SumExp<V>(x, cols, 1, max, [&](int64_t c, auto n, V d, V e) {
    StoreAt(x + c, e, n);
    if (want_entropy) {
      weighted += static_cast<double>(Sum(BlendLess(V::Zero(), e, e * d, V::Zero())));
    }
  });
  const double lse = max + log(total), nll = lse - target;
  if (a.loss != nullptr) {
    a.loss[r] =
        static_cast<S>((1 - smoothing) * nll + smoothing * (lse - mean) + z_loss * lse * lse);
  }
  if (a.nll != nullptr) a.nll[r] = static_cast<S>(nll);
  if (want_entropy) a.entropy[r] = static_cast<S>(log(total) - weighted / total);
  const V scale = V::Set1(static_cast<S>(weight * (1 + 2 * z_loss * lse) / total));
  const V uniform = V::Set1(static_cast<S>(weight * smoothing / static_cast<double>(cols)));
  ForLanes(cols,
           [&](int64_t c, auto n) { StoreAt(x + c, LoadAt<V>(x + c, n) * scale - uniform, n); });
  x[y] -= static_cast<S>(weight * (1 - smoothing));
}

template <class V>
void Softmax<V>::CrossEntropy(const CrossEntropyArgs<S>& a, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    S* x = a.logits + r * a.shape.stride;
    if (a.labels[r] >= 0) {
      CrossEntropyRow<V>(a, r, x, a.weight != nullptr ? static_cast<double>(a.weight[r]) : 1);
      continue;
    }
    memset(x, 0, static_cast<size_t>(a.shape.cols) * sizeof(S));
    if (a.loss != nullptr) a.loss[r] = 0;
    if (a.nll != nullptr) a.nll[r] = 0;
    if (a.entropy != nullptr) a.entropy[r] = 0;
  }
}

template <class V>
double Softmax<V>::ExpBlocks(const S* x, int64_t cols, double scale, double max, S* p,
                             double* sums) {
  double total = 0;
  for (int64_t first = 0; first < cols; first += kSoftmaxBlock) {
    const int64_t count = cols - first < kSoftmaxBlock ? cols - first : kSoftmaxBlock;
    const double sum = SumExp<V>(x + first, count, scale, max,
                                 [&](int64_t c, auto n, V, V e) { StoreAt(p + first + c, e, n); });
    sums[first / kSoftmaxBlock] = sum;
    total += sum;
  }
  return total;
}

RETORT_KERNELS_EMIT(Softmax);

}  // namespace retort::kernels::RETORT_KERNELS_NS
