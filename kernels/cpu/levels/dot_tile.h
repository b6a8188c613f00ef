// Dot products of a few rows of w with a row or two of x (more of f64), held in registers. The
// order of a sum is skinny GEMM's: 16 lanes over the columns, then Sum's tree; so a value does not
// depend on the tile it was computed in.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/levels/levels.h"

namespace retort::kernels::RETORT_KERNELS_NS {

// Tile sizes by registers.
#if RETORT_KERNELS_LEVEL == 2
static constexpr int kTileW = 4, kTileX = 4;
#elif RETORT_KERNELS_LEVEL == 1
static constexpr int kTileW = 4, kTileX = 3;
#else
static constexpr int kTileW = 2, kTileX = 1;
#endif
static constexpr int64_t kCacheLine = 64;
static constexpr int64_t kL1Elements = 4608;  // of x: 18 kB of at least 32

// kLines cache lines are fetched at `ahead` in each step, so that a pass over a tile that lies in
// L1 already brings part of the next one.
template <class V, int kW, int kX, int kLines>
static inline void WholeLanesTile(const ScalarOf<V>* x, int64_t x_stride, const ScalarOf<V>* w,
                                  int64_t w_stride, const char* ahead, int64_t cols,
                                  V (&acc)[kX][kW]) {
  for (auto& row : acc) {
    for (V& a : row) a = V::Zero();
  }
  ForLanes(
      cols, [&](int64_t i, auto n) __attribute__((always_inline)) {
        V wv[kW];
        for (int o = 0; o < kW; ++o) wv[o] = LoadAt<V>(w + o * w_stride + i, n);
        for (int line = 0; line < kLines; ++line, ahead += kCacheLine) Prefetch(ahead);
        for (int m = 0; m < kX; ++m) {
          const V xv = LoadAt<V>(x + m * x_stride + i, n);
          for (int o = 0; o < kW; ++o) acc[m][o] = Fma(xv, wv[o], acc[m][o]);
        }
      });
}

#if RETORT_KERNELS_LEVEL == 1
// The same sums with half the registers: lanes half .. half + 7 of all columns.
template <int kW, int kX, int kLines>
static inline void HalfLanesTile(int64_t half, const float* x, int64_t x_stride, const float* w,
                                 int64_t w_stride, const char* ahead, int64_t cols,
                                 __m256 (&sums)[kX][kW]) {
  for (auto& row : sums) {
    for (__m256& a : row) a = _mm256_setzero_ps();
  }
  const auto step = [&](int64_t i, auto load) __attribute__((always_inline)) {
    __m256 wv[kW];
    for (int o = 0; o < kW; ++o) wv[o] = load(w + o * w_stride + i);
    for (int m = 0; m < kX; ++m) {
      const __m256 xv = load(x + m * x_stride + i);
      for (int o = 0; o < kW; ++o) sums[m][o] = _mm256_fmadd_ps(xv, wv[o], sums[m][o]);
    }
  };
  const int64_t whole = cols / 16 * 16;
  for (int64_t i = half; i < whole; i += 16) {
    for (int line = 0; line < kLines; ++line, ahead += kCacheLine) Prefetch(ahead);
    step(i, [](const float* p) { return _mm256_loadu_ps(p); });
  }
  if (cols > whole + half) {
    const __m256i mask = F16::Mask(cols - whole - half);
    step(whole + half, [&](const float* p) { return _mm256_maskload_ps(p, mask); });
  }
}
#endif

template <class V, int kW, int kX, int kLines>
static inline void DotTile(const ScalarOf<V>* x, int64_t x_stride, const ScalarOf<V>* w,
                           int64_t w_stride, const char* ahead, int64_t cols, V (&acc)[kX][kW]) {
#if RETORT_KERNELS_LEVEL == 1
  if constexpr (kW * kX > 4) {
    __m256 low[kX][kW], high[kX][kW];
    HalfLanesTile<kW, kX, kLines>(0, x, x_stride, w, w_stride, ahead, cols, low);
    HalfLanesTile<kW, kX, 0>(8, x, x_stride, w, w_stride, nullptr, cols, high);
    for (int m = 0; m < kX; ++m) {
      for (int o = 0; o < kW; ++o) acc[m][o] = {low[m][o], high[m][o]};
    }
    return;
  }
#endif
  WholeLanesTile<V, kW, kX, kLines>(x, x_stride, w, w_stride, ahead, cols, acc);
}

// The kW sums of one row of a tile into out[0 .. kW), plus bias if there is one.
template <class V, int kW>
static inline void StoreSums(const V (&acc)[kW], const ScalarOf<V>* bias, ScalarOf<V>* out) {
  if constexpr (kW == 4 && sizeof(ScalarOf<V>) == 4) {
    F4 sums = Sum4(acc[0], acc[1], acc[2], acc[3]);
    if (bias != nullptr) {
      F4 b;
      memcpy(&b, bias, sizeof(b));
      sums += b;
    }
    memcpy(out, &sums, sizeof(sums));
  } else {
    for (int o = 0; o < kW; ++o) out[o] = Sum(acc[o]) + (bias != nullptr ? bias[o] : 0);
  }
}

template <class S>
struct DotArgs {
  const S* x;
  const S* w;
  const S* bias;  // of the tile's first row of w, or NULL
  S* y;
  int64_t x_stride, w_stride, y_stride, cols;
};

template <class V, int kW, int kX, int kLines>
static inline void RunTile(const DotArgs<ScalarOf<V>>& a, int64_t m, const char* ahead) {
  V acc[kX][kW];
  DotTile<V, kW, kX, kLines>(a.x + m * a.x_stride, a.x_stride, a.w, a.w_stride, ahead, a.cols, acc);
  for (int k = 0; k < kX; ++k) StoreSums<V, kW>(acc[k], a.bias, a.y + (m + k) * a.y_stride);
}

// kW rows of w against all rows of x, kX at a time; the next kW rows of w are fetched meanwhile.
template <class V, int kW, int kX, int kLines>
static inline void RunRows(const DotArgs<ScalarOf<V>>& a, int64_t rows) {
  const int64_t bytes = (a.cols + 15) / 16 * kLines * kCacheLine;  // fetched per pass
  const char* ahead = reinterpret_cast<const char*>(a.w + kW * a.w_stride);
  int64_t m = 0;
  for (int pass = 0; m + kX <= rows; ++pass, m += kX) {
    // Alone, a row of w streams in the first pass, so its successor is fetched in the second.
    const int turn = kW == 1 ? pass - 1 : pass;
    if (kLines > 0 && turn >= 0 && turn * kLines < kW) {
      RunTile<V, kW, kX, kLines>(a, m, ahead + turn * bytes);
    } else {
      RunTile<V, kW, kX, 0>(a, m, nullptr);
    }
  }
  if constexpr (kX > 3) {
    if (rows - m == 3) return RunTile<V, kW, 3, 0>(a, m, nullptr);
  }
  if constexpr (kX > 2) {
    if (rows - m == 2) return RunTile<V, kW, 2, 0>(a, m, nullptr);
  }
  if constexpr (kX > 1) {
    if (rows - m == 1) RunTile<V, kW, 1, 0>(a, m, nullptr);
  }
}

// y[m, o] = x[m] . w[o] (+ bias[o]) for all `rows` of x and `outputs` of w.
// While x fits L1 beside the stream, one row of w at a time is fastest: the processor's prefetcher
// follows a single stream best. Beyond, tiles of kTileW rows load x less often.
template <class V>
static inline void Dots(DotArgs<ScalarOf<V>> a, int64_t rows, int64_t outputs) {
  int64_t o = 0;
  const auto run = [&](int64_t step, auto kernel) {
    for (; o + step <= outputs; o += step) {
      kernel();
      a.w += step * a.w_stride;
      a.y += step;
      if (a.bias != nullptr) a.bias += step;
    }
  };
  if (rows * a.cols <= kL1Elements) {
    return run(1, [&] { RunRows<V, 1, 4, 1>(a, rows); });
  }
  run(kTileW, [&] { RunRows<V, kTileW, kTileX, kTileW>(a, rows); });
  run(1, [&] { RunRows<V, 1, kTileX, 0>(a, rows); });
}

}  // namespace retort::kernels::RETORT_KERNELS_NS
