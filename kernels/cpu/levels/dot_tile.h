// Dot products of a few rows of w with a few rows of x, held in registers. The one place that
// fixes the reduction order of skinny GEMM and attention scores: 16 lanes over the columns, then
// Sum's tree; so a value does not depend on the tile it was computed in.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/levels/levels.h"

namespace retort::kernels::RETORT_KERNELS_NS {

// Tile sizes by registers: accumulators take kW * kX (AVX2: two registers each).
#if RETORT_KERNELS_LEVEL == 2
static constexpr int kTileW = 4, kTileX = 4;
#elif RETORT_KERNELS_LEVEL == 1
static constexpr int kTileW = 2, kTileX = 3;
#else
static constexpr int kTileW = 2, kTileX = 1;
#endif
// With one row of x: rows of w in flight (one stream does not fill a core's bandwidth).
static constexpr int kStreams = 4;

template <class V, int kW, int kX, bool kPrefetch>
static inline void DotTile(const ScalarOf<V>* x, int64_t x_stride, const ScalarOf<V>* w,
                           int64_t w_stride, int64_t ahead, int64_t cols, V (&acc)[kX][kW]) {
  for (auto& row : acc) {
    for (V& a : row) a = V::Zero();
  }
  ForLanes(
      cols, [&](int64_t i, auto n) __attribute__((always_inline)) {
        V wv[kW];
        for (int o = 0; o < kW; ++o) {
          wv[o] = LoadAt<V>(w + o * w_stride + i, n);
          if constexpr (kPrefetch) Prefetch(w + o * w_stride + ahead + i);
        }
        for (int m = 0; m < kX; ++m) {
          const V xv = LoadAt<V>(x + m * x_stride + i, n);
          for (int o = 0; o < kW; ++o) acc[m][o] = Fma(xv, wv[o], acc[m][o]);
        }
      });
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
  int64_t ahead;  // prefetch distance in elements; 0: none
};

template <class V, int kW, int kX>
static inline void RunTile(const DotArgs<ScalarOf<V>>& a, int64_t m) {
  V acc[kX][kW];
  if (a.ahead != 0 && m == 0) {
    DotTile<V, kW, kX, true>(a.x, a.x_stride, a.w, a.w_stride, a.ahead, a.cols, acc);
  } else {
    DotTile<V, kW, kX, false>(a.x + m * a.x_stride, a.x_stride, a.w, a.w_stride, 0, a.cols, acc);
  }
  for (int k = 0; k < kX; ++k) StoreSums<V, kW>(acc[k], a.bias, a.y + (m + k) * a.y_stride);
}

// kW rows of w against all m rows of x.
template <class V, int kW, int kX>
static inline void RunRows(const DotArgs<ScalarOf<V>>& a, int64_t rows) {
  int64_t m = 0;
  for (; m + kX <= rows; m += kX) RunTile<V, kW, kX>(a, m);
  if constexpr (kX > 1) {
    const int64_t rest = rows - m;
    if constexpr (kX > 3) {
      if (rest == 3) return RunTile<V, kW, 3>(a, m);
    }
    if constexpr (kX > 2) {
      if (rest == 2) return RunTile<V, kW, 2>(a, m);
    }
    if (rest == 1) RunTile<V, kW, 1>(a, m);
  }
}

// y[m, o] = x[m] . w[o] (+ bias[o]) for all `rows` of x and `outputs` of w.
template <class V>
static inline void Dots(DotArgs<ScalarOf<V>> a, int64_t rows, int64_t outputs) {
  int64_t o = 0;
  const auto advance = [&](int64_t n) {
    o += n;
    a.w += n * a.w_stride;
    a.y += n;
    if (a.bias != nullptr) a.bias += n;
  };
  if (rows == 1) {
    for (; o + kStreams <= outputs; advance(kStreams)) RunTile<V, kStreams, 1>(a, 0);
  }
  for (; o + kTileW <= outputs; advance(kTileW)) RunRows<V, kTileW, kTileX>(a, rows);
  a.ahead = 0;
  for (; o < outputs; advance(1)) RunRows<V, 1, kTileX>(a, rows);
}

}  // namespace retort::kernels::RETORT_KERNELS_NS
