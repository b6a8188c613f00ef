// Small matrix products held in registers, by outer products: C += A B, where each element of C is
// one chain of multiply-adds over the depth, in order. So a value depends neither on the tile it
// was computed in nor on how its depth was cut into calls.
// Method: kRows x kCols vectors of C stay in registers; a step of the depth loads kCols vectors of
// B and broadcasts kRows elements of A. A's strides are compile-time constants.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/levels/levels.h"

namespace retort::kernels::RETORT_KERNELS_NS {

// Rows and vectors per tile, by registers. Rows divide kTrainBlock.
template <class V>
struct OuterShape {
  static constexpr int kRows = 2, kCols = 1;
};
#if RETORT_KERNELS_LEVEL == 2
template <>
struct OuterShape<F16> {
  static constexpr int kRows = 8, kCols = 3;
};
#elif RETORT_KERNELS_LEVEL == 1
template <>
struct OuterShape<F16> {
  static constexpr int kRows = 6, kCols = 1;
};
#endif

// a: element of row r at depth k: a[r * kARow + k * kAK].
template <class V, int kRows, int kCols, int64_t kARow, int64_t kAK, bool kAdd>
[[gnu::noinline]] static void OuterTile(const ScalarOf<V>* a, const ScalarOf<V>* b,
                                        int64_t b_stride, int64_t depth, ScalarOf<V>* c,
                                        int64_t c_stride) {
  V acc[kRows][kCols];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kCols; ++v) {
      acc[r][v] = kAdd ? V::Load(c + r * c_stride + v * 16) : V::Zero();
    }
  }
  for (int64_t k = 0; k < depth; ++k, a += kAK, b += b_stride) {
    V bv[kCols];
#pragma GCC unroll 4
    for (int v = 0; v < kCols; ++v) bv[v] = V::Load(b + v * 16);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const V av = V::Set1(a[r * kARow]);
#pragma GCC unroll 4
      for (int v = 0; v < kCols; ++v) acc[r][v] = Fma(av, bv[v], acc[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kCols; ++v) acc[r][v].Store(c + r * c_stride + v * 16);
  }
}

// One group of rows against columns [begin, end) (in vectors).
template <class V, int64_t kARow, int64_t kAK, bool kAdd>
static inline void OuterRow(const ScalarOf<V>* a, const ScalarOf<V>* b, int64_t b_stride,
                            int64_t depth, ScalarOf<V>* c, int64_t c_stride, int64_t begin,
                            int64_t end) {
  constexpr int kRows = OuterShape<V>::kRows, kCols = OuterShape<V>::kCols;
  int64_t v = begin;
  for (; v + kCols <= end; v += kCols) {
    OuterTile<V, kRows, kCols, kARow, kAK, kAdd>(a, b + v * 16, b_stride, depth, c + v * 16,
                                                 c_stride);
  }
  if constexpr (kCols > 2) {
    if (end - v == 2) {
      return OuterTile<V, kRows, 2, kARow, kAK, kAdd>(a, b + v * 16, b_stride, depth, c + v * 16,
                                                      c_stride);
    }
  }
  if constexpr (kCols > 1) {
    if (end - v == 1) {
      OuterTile<V, kRows, 1, kARow, kAK, kAdd>(a, b + v * 16, b_stride, depth, c + v * 16,
                                               c_stride);
    }
  }
}

}  // namespace retort::kernels::RETORT_KERNELS_NS
