// y = x . w^T for several rows of x while w, row-major, streams from memory once.
// Method: a tile of kStreamW rows of w meets all rows of x, up to kStreamX in a pass, whose sums
// lie in registers; passes also fetch the next tile, into L2, so that memory and arithmetic overlap
// (a fetch into L1 waits for the few slots that L1's own misses need). Depth is cut so that tile
// and pass stay in cache. One order of sums, 16 lanes over the columns and Sum's tree, as in
// dot_tile.h: a value depends neither on its tile nor on its pass nor on the cut.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/levels/levels.h"

namespace retort::kernels::RETORT_KERNELS_NS {

// Part: the lanes of a sum that one pass accumulates, as one register. LoadPart: 0 from lane n on.
#if RETORT_KERNELS_LEVEL == 2
using Part = F16;
static constexpr int kPartLanes = 16, kStreamW = 6, kStreamX = 4;
static constexpr int64_t kStreamDepth = 2048;
#elif RETORT_KERNELS_LEVEL == 1
struct Part {
  __m256 v;
  static Part Load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Part LoadPart(const float* p, int64_t n) { return {_mm256_maskload_ps(p, F16::Mask(n))}; }
  static Part Zero() { return {_mm256_setzero_ps()}; }
  void Store(float* p) const { _mm256_storeu_ps(p, v); }
};
static inline Part Fma(Part x, Part y, Part z) { return {_mm256_fmadd_ps(x.v, y.v, z.v)}; }
static constexpr int kPartLanes = 8, kStreamW = 4, kStreamX = 3;
static constexpr int64_t kStreamDepth = 512;
#else
struct Part {
  F4 v;
  static Part Load(const float* p) { return {LoadF4(p)}; }
  static Part LoadPart(const float* p, int64_t n) {
    float lanes[4] = {};
    memcpy(lanes, p, static_cast<size_t>(n < 4 ? n : 4) * sizeof(float));
    return Load(lanes);
  }
  static Part Zero() { return {SplatF4(0)}; }
  void Store(float* p) const { memcpy(p, &v, sizeof(v)); }
};
static inline Part Fma(Part x, Part y, Part z) { return {x.v * y.v + z.v}; }
static constexpr int kPartLanes = 4, kStreamW = 4, kStreamX = 2;
static constexpr int64_t kStreamDepth = 512;
#endif

// How rows of w are read: a Part of them from p on, or its first n lanes.
struct Floats {
  using Element = float;
  static constexpr int kLines = kStreamW;  // of the next tile, per 16 columns of this one
  static Part Load(const float* p) { return Part::Load(p); }
  static Part LoadPart(const float* p, int64_t n) { return Part::LoadPart(p, n); }
};

static constexpr int64_t kFetchLine = 64;

// Columns [0, cols) of a tile and of the rows of one pass.
template <class W>
struct StreamTile {
  const float* x;
  const typename W::Element* w;
  int64_t x_stride, w_stride, cols;
  bool first;   // no columns went before
  float* sums;  // [row of x][row of w][16 lanes], unfolded
  const char* ahead;
};

template <int kX>
static inline void LoadLanes(const float* sums, bool first, Part (&acc)[kX][kStreamW]) {
#pragma GCC unroll 4
  for (int r = 0; r < kX; ++r) {
#pragma GCC unroll 6
    for (int o = 0; o < kStreamW; ++o) {
      acc[r][o] = first ? Part::Zero() : Part::Load(sums + (r * kStreamW + o) * 16);
    }
  }
}

template <int kX>
static inline void StoreLanes(const Part (&acc)[kX][kStreamW], float* sums) {
#pragma GCC unroll 4
  for (int r = 0; r < kX; ++r) {
#pragma GCC unroll 6
    for (int o = 0; o < kStreamW; ++o) acc[r][o].Store(sums + (r * kStreamW + o) * 16);
  }
}

// kLines lines from `ahead` on are fetched in every step. Not inlined: alone, every compiler keeps
// the sums in registers.
template <class W, int kX, int kLines>
[[gnu::noinline]] static void StreamPass(const StreamTile<W>& tile) {
  using E = typename W::Element;
  StreamTile<W> t = tile;
  const int64_t whole = t.cols / 16 * 16;
  for (int64_t lane = 0; lane < 16; lane += kPartLanes) {
    Part acc[kX][kStreamW];
    LoadLanes<kX>(t.sums + lane, t.first, acc);
    const auto step = [&](auto load_x, auto load_w) __attribute__((always_inline)) {
      Part xs[kX];
#pragma GCC unroll 4
      for (int r = 0; r < kX; ++r) xs[r] = load_x(t.x + r * t.x_stride);
#pragma GCC unroll 6
      for (int o = 0; o < kStreamW; ++o) {
        const Part w = load_w(t.w + o * t.w_stride);
#pragma GCC unroll 4
        for (int r = 0; r < kX; ++r) acc[r][o] = Fma(xs[r], w, acc[r][o]);
      }
    };
    for (int64_t i = lane; i < whole; i += 16) {
      if (kLines > 0 && lane == 0) {
#pragma GCC unroll 6
        for (int line = 0; line < kLines; ++line) PrefetchL2(t.ahead + line * kFetchLine);
        t.ahead += kLines * kFetchLine;
      }
      step([&](const float* x) { return Part::Load(x + i); },
           [&](const E* w) { return W::Load(w + i); });
    }
    const int64_t at = whole + lane, rest = t.cols - at;
    if (rest > 0) {
      step([&](const float* x) { return Part::LoadPart(x + at, rest); },
           [&](const E* w) { return W::LoadPart(w + at, rest); });
    }
    StoreLanes<kX>(acc, t.sums + lane);
  }
}

template <class W, int kLines, int kX = kStreamX>
static inline void AnyPass(int64_t rows, const StreamTile<W>& t) {
  if constexpr (kX > 1) {
    if (rows < kX) return AnyPass<W, kLines, kX - 1>(rows, t);
  }
  StreamPass<W, kX, kLines>(t);
}

template <class E>
struct StreamArgs {
  const float* x;
  const E* w;
  const float* bias;  // or NULL
  float* y;
  int64_t rows, x_stride, w_stride, y_stride, cols;
};

static constexpr int64_t kStreamRows = 64;             // of x: their sums stay in L1 and L2
static constexpr int64_t kStreamBlock = 8 * kStreamW;  // outputs that are written together

// The unfolded sums of a tile, from row w on, with all rows of x. In the first passes of each depth
// kLines lines per step are fetched of the next tile, unless it is the last.
template <class W, int kLines>
static void StreamSums(const StreamArgs<typename W::Element>& a, const typename W::Element* w,
                       bool last, float* sums) {
  const int64_t passes = (a.rows + kStreamX - 1) / kStreamX;
  const char* ahead = reinterpret_cast<const char*>(w + kStreamW * a.w_stride);
  for (int64_t k = 0; k < a.cols; k += kStreamDepth) {
    const int64_t cols = a.cols - k < kStreamDepth ? a.cols - k : kStreamDepth;
    int64_t lines = last ? 0 : W::kLines;  // yet to be fetched, per step
    int64_t left = passes;                 // of about one size: a thin last one would be slow
    for (int64_t r = 0; r < a.rows; --left) {
      const int64_t rows = (a.rows - r + left - 1) / left;
      const StreamTile<W> tile = {.x = a.x + r * a.x_stride + k,
                                  .w = w + k,
                                  .x_stride = a.x_stride,
                                  .w_stride = a.w_stride,
                                  .cols = cols,
                                  .first = k == 0,
                                  .sums = sums + r * kStreamW * 16,
                                  .ahead = ahead};
      if (lines > 0) {
        AnyPass<W, kLines>(rows, tile);
        ahead += cols / 16 * kLines * kFetchLine;
        lines -= kLines;
      } else {
        AnyPass<W, 0>(rows, tile);
      }
      r += rows;
    }
  }
}

// The folded sums of outputs [from, from + kStreamW) into block[row][kStreamBlock].
template <class E>
static inline void PutTile(const StreamArgs<E>& a, const float* lanes, int64_t from, float* block) {
  alignas(64) float sums[kStreamRows * kStreamW];
  SumEach(lanes, a.rows * kStreamW, sums);
  for (int64_t r = 0; r < a.rows; ++r) {
    float* const row = block + r * kStreamBlock;
    memcpy(row, sums + r * kStreamW, sizeof(float) * kStreamW);
    if (a.bias == nullptr) continue;
    for (int o = 0; o < kStreamW; ++o) row[o] += a.bias[from + o];
  }
}

// At most kStreamRows rows; outputs [begin, end), at least kStreamW of them.
template <class W>
static void StreamOutputs(const StreamArgs<typename W::Element>& a, int64_t begin, int64_t end) {
  alignas(64) float lanes[kStreamRows * kStreamW * 16];
  alignas(64) float block[kStreamRows * kStreamBlock];
  int64_t blocked = begin;  // block holds outputs from here on
  const auto sums = a.rows <= kStreamX       ? StreamSums<W, W::kLines>
                    : a.rows <= 2 * kStreamX ? StreamSums<W, (W::kLines + 1) / 2>
                                             : StreamSums<W, (W::kLines + 2) / 3>;
  for (int64_t o = begin; o < end; o += kStreamW) {
    // The last tile begins earlier rather than being thin: values come out alike again.
    const bool last = o + kStreamW >= end;
    const int64_t from = last ? end - kStreamW : o;
    if (last && from < blocked) blocked = from;
    sums(a, a.w + from * a.w_stride, last, lanes);
    PutTile(a, lanes, from, block + from - blocked);
    const int64_t outputs = from + kStreamW - blocked;
    if (!last && outputs < kStreamBlock) continue;
    for (int64_t r = 0; r < a.rows; ++r) {
      memcpy(a.y + r * a.y_stride + blocked, block + r * kStreamBlock,
             static_cast<size_t>(outputs) * sizeof(float));
    }
    blocked += outputs;
  }
}

}  // namespace retort::kernels::RETORT_KERNELS_NS
