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
#pragma GCC unroll 3
    for (int v = 0; v < kCols; ++v) {
      acc[r][v] = kAdd ? V::Load(c + r * c_stride + v * 16) : V::Zero();
    }
  }
  for (int64_t k = 0; k < depth; ++k, a += kAK, b += b_stride) {
    V bv[kCols];
#pragma GCC unroll 3
    for (int v = 0; v < kCols; ++v) bv[v] = V::Load(b + v * 16);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const V av = V::Set1(a[r * kARow]);
#pragma GCC unroll 3
      for (int v = 0; v < kCols; ++v) acc[r][v] = Fma(av, bv[v], acc[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
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

// dst[d, i] = x[i, d] * scale for i < n and d < cols; 0 for n <= i < width. dst rows are `width`
// long, a multiple of 4.
#if RETORT_KERNELS_LEVEL == 0
static void Transpose(const double* x, int64_t stride, int64_t n, int64_t cols, double scale,
                      int64_t width, double* dst) {
  for (int64_t d = 0; d < cols; ++d) {
    for (int64_t i = 0; i < width; ++i) dst[d * width + i] = i < n ? x[i * stride + d] * scale : 0;
  }
}
#endif

static inline F4 LoadFour(const float* p) {
  F4 r;
  memcpy(&r, p, sizeof(r));
  return r;
}
static inline void StoreFour(float* p, F4 v) { memcpy(p, &v, sizeof(v)); }

// Four rows of four, turned: dst[k * width + i] = rows[i][k].
static inline void TransposeFour(F4 r0, F4 r1, F4 r2, F4 r3, int64_t width, float* dst) {
  const F4 lo01 = __builtin_shuffle(r0, r1, I4{0, 4, 1, 5}),
           hi01 = __builtin_shuffle(r0, r1, I4{2, 6, 3, 7});
  const F4 lo23 = __builtin_shuffle(r2, r3, I4{0, 4, 1, 5}),
           hi23 = __builtin_shuffle(r2, r3, I4{2, 6, 3, 7});
  StoreFour(dst, __builtin_shuffle(lo01, lo23, I4{0, 1, 4, 5}));
  StoreFour(dst + width, __builtin_shuffle(lo01, lo23, I4{2, 3, 6, 7}));
  StoreFour(dst + 2 * width, __builtin_shuffle(hi01, hi23, I4{0, 1, 4, 5}));
  StoreFour(dst + 3 * width, __builtin_shuffle(hi01, hi23, I4{2, 3, 6, 7}));
}

[[maybe_unused]] static void Transpose(const float* x, int64_t stride, int64_t n, int64_t cols,
                                       float scale, int64_t width, float* dst) {
  const F4 factor = {scale, scale, scale, scale};
  const int64_t whole = cols / 4 * 4;
  for (int64_t i = 0; i < width; i += 4) {
    const auto row = [&](int64_t k, int64_t d) {
      return i + k < n ? LoadFour(x + (i + k) * stride + d) * factor : F4{0, 0, 0, 0};
    };
    for (int64_t d = 0; d < whole; d += 4) {
      TransposeFour(row(0, d), row(1, d), row(2, d), row(3, d), width, dst + d * width + i);
    }
    for (int64_t d = whole; d < cols; ++d) {
      for (int64_t k = i; k < i + 4; ++k) {
        dst[d * width + k] = k < n ? x[k * stride + d] * scale : 0.0f;
      }
    }
  }
}

// dst[i, d] = x[i, d] * scale for i < n, 0 in the columns cols <= d < width (a multiple of 16).
template <class V>
static void PackRows(const ScalarOf<V>* x, int64_t stride, int64_t n, int64_t cols,
                     ScalarOf<V> scale, int64_t width, ScalarOf<V>* dst) {
  const V factor = V::Set1(scale);
  for (int64_t i = 0; i < n; ++i) {
    ForLanes(cols, [&](int64_t d, auto part) {
      (LoadAt<V>(x + i * stride + d, part) * factor).Store(dst + i * width + d);
    });
  }
}

}  // namespace retort::kernels::RETORT_KERNELS_NS
