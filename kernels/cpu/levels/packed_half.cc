// y = x . w^T for f16 and bf16 rows as they lie in files, and a few rows of x.
// Method: kTileW rows of w stream side by side, as one stream does not fill a core's bandwidth;
// each 16 columns are widened once for the kTileX rows of x in the tile; further rows of x find the
// rows of w in L1. As many rows of x as L2 keeps go together. One order of sums, 16 lanes over the
// columns and Sum's tree, whatever the tile. SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/levels/packed_simd.h"
#include "kernels/cpu/packed_table.h"

namespace retort::kernels::RETORT_KERNELS_NS {

// Tiles by registers; Lanes is what one pass accumulates of the 16 lanes of a sum.
#if RETORT_KERNELS_LEVEL == 2
static constexpr int kTileW = 4, kTileX = 6;
#elif RETORT_KERNELS_LEVEL == 1
static constexpr int kTileW = 4, kTileX = 3;
#else
static constexpr int kTileW = 2, kTileX = 2;
#endif
// Fetched ahead: within a long row, else the rows of the next tile.
static constexpr int64_t kAheadBytes = 1024, kLongRowBytes = 4096;
static constexpr int64_t kXBytes = 1 << 20;

struct HalfFloat {
  static F16 Load(const uint16_t* p) { return LoadHalves(p); }
#if RETORT_KERNELS_LEVEL == 1
  static __m256 Load8(const uint16_t* p) { return _mm256_cvtph_ps(Load128(p)); }
#endif
};
struct BrainFloat {
  static F16 Load(const uint16_t* p) { return LoadBf16(p); }
#if RETORT_KERNELS_LEVEL == 1
  static __m256 Load8(const uint16_t* p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(Load128(p)), 16));
  }
#endif
};

// The columns of a tile in steps of 16; the last step reads a padded copy where a row ends early.
struct HalfTile {
  const uint16_t* w;
  const float* x;
  int64_t w_stride, x_stride, cols;
};

template <int kW, int kX>
struct Tail {
  uint16_t w[kW][16] = {};
  float x[kX][16] = {};
  Tail(const HalfTile& t, int64_t from) {
    const auto n = static_cast<size_t>(t.cols - from);
    for (int o = 0; o < kW; ++o) memcpy(w[o], t.w + o * t.w_stride + from, n * sizeof(uint16_t));
    for (int r = 0; r < kX; ++r) memcpy(x[r], t.x + r * t.x_stride + from, n * sizeof(float));
  }
};

template <class H, int kW, int kX>
static inline void WholeStep(const uint16_t* w, int64_t w_stride, const float* x, int64_t x_stride,
                             F16 (&acc)[kX][kW]) {
  F16 wide[kW];
#pragma GCC unroll 4
  for (int o = 0; o < kW; ++o) wide[o] = H::Load(w + o * w_stride);
#pragma GCC unroll 6
  for (int r = 0; r < kX; ++r) {
    const F16 xr = F16::Load(x + r * x_stride);
#pragma GCC unroll 4
    for (int o = 0; o < kW; ++o) acc[r][o] = Fma(xr, wide[o], acc[r][o]);
  }
}

template <class H, int kW, int kX>
static inline void WholeLanes(const HalfTile& t, F16 (&acc)[kX][kW]) {
  for (auto& row : acc) {
    for (F16& a : row) a = F16::Zero();
  }
  const int64_t row_bytes = 2 * t.w_stride;
  const int64_t ahead = row_bytes >= kLongRowBytes ? kAheadBytes : kW * row_bytes;
  int64_t c = 0;
  for (; c + 16 <= t.cols; c += 16) {
    for (int o = 0; o < kW; ++o) {
      Prefetch(reinterpret_cast<const char*>(t.w + o * t.w_stride + c) + ahead);
    }
    WholeStep<H>(t.w + c, t.w_stride, t.x + c, t.x_stride, acc);
  }
  if (c < t.cols) {
    const Tail<kW, kX> tail(t, c);
    WholeStep<H>(tail.w[0], 16, tail.x[0], 16, acc);
  }
}

#if RETORT_KERNELS_LEVEL == 1
template <class H, int kW, int kX>
static inline void HalfStep(const uint16_t* w, int64_t w_stride, const float* x, int64_t x_stride,
                            __m256 (&acc)[kX][kW]) {
  __m256 wide[kW];
#pragma GCC unroll 4
  for (int o = 0; o < kW; ++o) wide[o] = H::Load8(w + o * w_stride);
#pragma GCC unroll 6
  for (int r = 0; r < kX; ++r) {
    const __m256 xr = _mm256_loadu_ps(x + r * x_stride);
#pragma GCC unroll 4
    for (int o = 0; o < kW; ++o) acc[r][o] = _mm256_fmadd_ps(xr, wide[o], acc[r][o]);
  }
}
// Lanes half .. half + 7 of all columns: the same sums with half the registers.
template <class H, int kW, int kX>
static inline void HalfLanes(const HalfTile& t, int64_t half, __m256 (&acc)[kX][kW]) {
  for (auto& row : acc) {
    for (__m256& a : row) a = _mm256_setzero_ps();
  }
  int64_t c = 0;
  for (; c + 16 <= t.cols; c += 16) {
    HalfStep<H>(t.w + c + half, t.w_stride, t.x + c + half, t.x_stride, acc);
  }
  if (c < t.cols) {
    const Tail<kW, kX> tail(t, c);
    HalfStep<H>(tail.w[0] + half, 16, tail.x[0] + half, 16, acc);
  }
}
#endif

// Not inlined: alone, every compiler keeps the sums in registers.
template <class H, int kW, int kX>
__attribute__((noinline)) static void RunTile(const HalfTile& t, const float* bias, float* y,
                                              int64_t y_stride) {
  F16 acc[kX][kW];
#if RETORT_KERNELS_LEVEL == 1
  if constexpr (kW * kX > 4) {
    __m256 low[kX][kW], high[kX][kW];
    HalfLanes<H>(t, 0, low);
    HalfLanes<H>(t, 8, high);
    for (int r = 0; r < kX; ++r) {
      for (int o = 0; o < kW; ++o) acc[r][o] = {low[r][o], high[r][o]};
    }
  } else {
    WholeLanes<H>(t, acc);
  }
#else
  WholeLanes<H>(t, acc);
#endif
  for (int r = 0; r < kX; ++r) {
    float sums[kW];
    if constexpr (kW == 4) {
      const F4 four = Sum4(acc[r][0], acc[r][1], acc[r][2], acc[r][3]);
      memcpy(sums, &four, sizeof(sums));
    } else {
      for (int o = 0; o < kW; ++o) sums[o] = Sum(acc[r][o]);
    }
    for (int o = 0; o < kW; ++o) y[r * y_stride + o] = sums[o] + (bias != nullptr ? bias[o] : 0);
  }
}

template <class H, int kW, int kX = kTileX>
static void LastRows(int64_t rows, const HalfTile& t, const float* bias, float* y,
                     int64_t y_stride) {
  if constexpr (kX > 1) {
    if (rows < kX) return LastRows<H, kW, kX - 1>(rows, t, bias, y, y_stride);
  }
  if (rows == kX) RunTile<H, kW, kX>(t, bias, y, y_stride);
}

// kW outputs from o on, all rows of x.
template <class H, int kW>
static void Outputs(const PackedArgs& a, int64_t o) {
  HalfTile t = {.w = reinterpret_cast<const uint16_t*>(a.w.codes) + o * a.w.cols,
                .x = a.x,
                .w_stride = a.w.cols,
                .x_stride = a.x_stride,
                .cols = a.w.cols};
  const float* const bias = a.bias != nullptr ? a.bias + o : nullptr;
  int64_t m = 0;
  for (; m + kTileX <= a.m; m += kTileX) {
    RunTile<H, kW, kTileX>(t, bias, a.y + m * a.y_stride + o, a.y_stride);
    t.x += kTileX * a.x_stride;
  }
  LastRows<H, kW>(a.m - m, t, bias, a.y + m * a.y_stride + o, a.y_stride);
}

template <class H>
static void Range(const PackedArgs& a, int64_t begin, int64_t end) {
  int64_t o = begin;
  for (; o + kTileW <= end; o += kTileW) Outputs<H, kTileW>(a, o);
  for (; o < end; ++o) Outputs<H, 1>(a, o);
}

void HalfOutputs(const PackedArgs& args, int64_t begin, int64_t end) {
  const int64_t fit = kXBytes / (4 * args.w.cols + 1) / kTileX * kTileX;
  const int64_t together = fit > 16 ? fit : 16;
  for (int64_t m = 0; m < args.m; m += together) {
    PackedArgs a = args;
    a.m = args.m - m < together ? args.m - m : together;
    a.x += m * a.x_stride;
    a.y += m * a.y_stride;
    if (a.w.type == RETORT_PACKED_F16) {
      Range<HalfFloat>(a, begin, end);
    } else {
      Range<BrainFloat>(a, begin, end);
    }
  }
}

}  // namespace retort::kernels::RETORT_KERNELS_NS
