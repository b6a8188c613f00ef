// Element-wise loops, bias, column sums, embedding.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/levels/levels.h"

namespace retort::kernels::RETORT_KERNELS_NS {

template <class V>
void Elementwise<V>::Add(const S* a, const S* b, S* y, int64_t n) {
  ForLanes(n, [&](int64_t i, auto part) {
    StoreAt(y + i, LoadAt<V>(a + i, part) + LoadAt<V>(b + i, part), part);
  });
}

template <class V>
void Elementwise<V>::Mul(const S* a, const S* b, S* y, int64_t n) {
  ForLanes(n, [&](int64_t i, auto part) {
    StoreAt(y + i, LoadAt<V>(a + i, part) * LoadAt<V>(b + i, part), part);
  });
}

template <class V>
void Elementwise<V>::Scale(const S* x, S scale, S* y, int64_t n) {
  const V s = V::Set1(scale);
  ForLanes(n, [&](int64_t i, auto part) { StoreAt(y + i, LoadAt<V>(x + i, part) * s, part); });
}

template <class V>
void Elementwise<V>::Axpy(const S* x, S scale, S* y, int64_t n) {
  const V s = V::Set1(scale);
  ForLanes(n, [&](int64_t i, auto part) {
    StoreAt(y + i, Fma(LoadAt<V>(x + i, part), s, LoadAt<V>(y + i, part)), part);
  });
}

template <class V>
void Elementwise<V>::AddBias(const ColumnArgs<S>& a, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    S* y = a.out + r * a.stride;
    Add(y, a.in, y, a.cols);
  }
}

// Rows in order; partial sums over 64 rows keep f32 rounding small.
template <class V>
void Elementwise<V>::ColSumColumns(const ColumnArgs<S>& a, int64_t begin, int64_t end) {
  for (int64_t first = 0; first < a.rows; first += 64) {
    const int64_t last = first + 64 < a.rows ? first + 64 : a.rows;
    ForLanes(end - begin, [&](int64_t lane, auto n) {
      const int64_t c = begin + lane;
      V sum = V::Zero();
      for (int64_t r = first; r < last; ++r) sum = sum + LoadAt<V>(a.in + r * a.stride + c, n);
      StoreAt(a.out + c, LoadAt<V>(a.out + c, n) + sum, n);
    });
  }
}

template <class V>
void Elementwise<V>::Embed(const ColumnArgs<S>& a, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    Scale(a.in + a.ids[r] * a.cols, a.scale, a.out + r * a.cols, a.cols);
  }
}

template <class V>
void Elementwise<V>::EmbedBackwardColumns(const ColumnArgs<S>& a, int64_t begin, int64_t end) {
  for (int64_t r = 0; r < a.rows; ++r) {
    Axpy(a.in + r * a.cols + begin, a.scale, a.out + a.ids[r] * a.cols + begin, end - begin);
  }
}

RETORT_KERNELS_EMIT(Elementwise);

}  // namespace retort::kernels::RETORT_KERNELS_NS
