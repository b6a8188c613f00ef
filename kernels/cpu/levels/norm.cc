// RMS norm, forward and backward.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/levels/levels.h"

namespace retort::kernels::RETORT_KERNELS_NS {

static inline float SquareRoot(float x) { return sqrtf(x); }
[[maybe_unused]] static inline double SquareRoot(double x) { return sqrt(x); }

template <class V>
static ScalarOf<V> Rstd(V sum_squares, const retort_norm_shape& shape) {
  using S = ScalarOf<V>;
  return S(1) /
         SquareRoot(Sum(sum_squares) / static_cast<S>(shape.cols) + static_cast<S>(shape.eps));
}

template <class V>
static void ApplyNorm(const ScalarOf<V>* x, const ScalarOf<V>* w, ScalarOf<V> rstd,
                      const retort_norm_shape& shape, ScalarOf<V>* y) {
  const V scale = V::Set1(rstd), offset = V::Set1(static_cast<ScalarOf<V>>(shape.offset));
  ForLanes(shape.cols, [&](int64_t c, auto n) {
    StoreAt(y + c, LoadAt<V>(x + c, n) * scale * (LoadAt<V>(w + c, n) + offset), n);
  });
}

template <class V>
void Norm<V>::Forward(const NormArgs<S>& a, int64_t begin, int64_t end) {
  const retort_norm_shape& shape = a.shape;
  for (int64_t r = begin; r < end; ++r) {
    for (int64_t g = 0; g < shape.groups; ++g) {
      const S* x = a.x + r * a.x_stride + g * shape.cols;
      V squares = V::Zero();
      ForLanes(shape.cols, [&](int64_t c, auto n) {
        const V v = LoadAt<V>(x + c, n);
        squares = Fma(v, v, squares);
      });
      const S rstd = Rstd(squares, shape);
      if (a.rstd != nullptr) a.rstd[r * shape.groups + g] = rstd;
      ApplyNorm<V>(x, a.w, rstd, shape, a.y + r * a.y_stride + g * shape.cols);
    }
  }
}

template <class V>
void Norm<V>::AddForward(const NormArgs<S>& a, int64_t begin, int64_t end) {
  const int64_t cols = a.shape.cols;
  for (int64_t r = begin; r < end; ++r) {
    const S* x = a.x + r * cols;
    const S* b = a.b + r * cols;
    S* sum = a.sum + r * cols;
    V squares = V::Zero();
    ForLanes(cols, [&](int64_t c, auto n) {
      const V v = LoadAt<V>(x + c, n) + LoadAt<V>(b + c, n);
      StoreAt(sum + c, v, n);
      squares = Fma(v, v, squares);
    });
    const S rstd = Rstd(squares, a.shape);
    if (a.rstd != nullptr) a.rstd[r] = rstd;
    ApplyNorm<V>(sum, a.w, rstd, a.shape, a.y + r * cols);
  }
}

// With xhat = x * rstd and g = dy * (w + offset): dx = rstd * (g - xhat * mean(g * xhat)).
// Vector i of the rows; sum (NULL: not wanted) += dy * xhat.
template <class V>
static void BackwardVector(const NormArgs<ScalarOf<V>>& a, int64_t i, ScalarOf<V>* sum) {
  using S = ScalarOf<V>;
  const int64_t cols = a.shape.cols, r = i / a.shape.groups, shift = i % a.shape.groups * cols;
  const S* x = a.x + r * a.x_stride + shift;
  const S* dy = a.dy + r * a.dy_stride + shift;
  S* dx = a.dx + r * a.dx_stride + shift;
  const V rstd = V::Set1(a.rstd[i]), offset = V::Set1(static_cast<S>(a.shape.offset));
  V dot = V::Zero();
  ForLanes(cols, [&](int64_t c, auto n) {
    const V d = LoadAt<V>(dy + c, n), xhat = LoadAt<V>(x + c, n) * rstd;
    dot = Fma(d * (LoadAt<V>(a.w + c, n) + offset), xhat, dot);
    if (sum != nullptr) StoreAt(sum + c, Fma(d, xhat, LoadAt<V>(sum + c, n)), n);
  });
  const V mean = V::Set1(Sum(dot) / static_cast<S>(cols));
  ForLanes(cols, [&](int64_t c, auto n) {
    const V g = LoadAt<V>(dy + c, n) * (LoadAt<V>(a.w + c, n) + offset);
    V d = rstd * (g - LoadAt<V>(x + c, n) * rstd * mean);
    if (a.accumulate) d = d + LoadAt<V>(dx + c, n);
    StoreAt(dx + c, d, n);
  });
}

template <class V>
void Norm<V>::BackwardX(const NormArgs<S>& a, int64_t begin, int64_t end) {
  for (int64_t i = begin * a.shape.groups; i < end * a.shape.groups; ++i) {
    BackwardVector<V>(a, i, nullptr);
  }
}

template <class V>
void Norm<V>::BackwardChunks(const NormArgs<S>& a, S* partial, int64_t begin, int64_t end) {
  const int64_t vectors = a.shape.rows * a.shape.groups, cols = a.shape.cols;
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    S* const sum = a.dw == nullptr ? nullptr : partial + chunk * cols;
    if (sum != nullptr) memset(sum, 0, static_cast<size_t>(cols) * sizeof(S));
    const int64_t first = chunk * kNormChunk;
    const int64_t last = first + kNormChunk < vectors ? first + kNormChunk : vectors;
    for (int64_t i = first; i < last; ++i) BackwardVector<V>(a, i, sum);
  }
}

template <class V>
void Norm<V>::ReduceColumns(const NormArgs<S>& a, const S* partial, int64_t begin, int64_t end) {
  const int64_t vectors = a.shape.rows * a.shape.groups, cols = a.shape.cols;
  ForLanes(end - begin, [&](int64_t lane, auto n) {
    const int64_t c = begin + lane;
    V sum = LoadAt<V>(a.dw + c, n);
    for (int64_t first = 0; first < vectors; first += kNormChunk) {
      sum = sum + LoadAt<V>(partial + first / kNormChunk * cols + c, n);
    }
    StoreAt(a.dw + c, sum, n);
  });
}

// dw over some columns, rows in order: partial sums over kNormChunk vectors keep f32 rounding
// small.
template <class V>
void Norm<V>::BackwardWColumns(const NormArgs<S>& a, int64_t begin, int64_t end) {
  const int64_t groups = a.shape.groups, vectors = a.shape.rows * groups;
  for (int64_t first = 0; first < vectors; first += kNormChunk) {
    const int64_t last = first + kNormChunk < vectors ? first + kNormChunk : vectors;
    ForLanes(end - begin, [&](int64_t lane, auto n) {
      const int64_t c = begin + lane;
      V sum = V::Zero();
      for (int64_t i = first; i < last; ++i) {
        const int64_t r = i / groups, shift = i % groups * a.shape.cols + c;
        const V xhat = LoadAt<V>(a.x + r * a.x_stride + shift, n) * V::Set1(a.rstd[i]);
        sum = Fma(LoadAt<V>(a.dy + r * a.dy_stride + shift, n), xhat, sum);
      }
      StoreAt(a.dw + c, LoadAt<V>(a.dw + c, n) + sum, n);
    });
  }
}

RETORT_KERNELS_EMIT(Norm);

}  // namespace retort::kernels::RETORT_KERNELS_NS
