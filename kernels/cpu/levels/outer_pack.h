// Packed copies of rows for outer_tile.h, plain and turned, with zeros where something is missing.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/levels/levels.h"

namespace retort::kernels::RETORT_KERNELS_NS {

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

static void Transpose(const float* x, int64_t stride, int64_t n, int64_t cols, float scale,
                      int64_t width, float* dst) {
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
