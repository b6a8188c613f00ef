// Products with a packed matrix through panels widened to f32: y = x . w^T and dx = dy . w.
// Method: a panel of kDepth terms by kWidth outputs is widened once into L2, as strips of kStrip
// outputs in the order the inner loop reads them; blocks of rows of x are copied to a fixed stride,
// so that no two rows meet in one set of L1; a tile of kTileRows x kStrip sums stays in registers.
// Sums of one output run over the terms in order, a partial sum per panel: which rows share a tile,
// or which thread has the output, changes no bit.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/levels/packed_widen.h"

namespace retort::kernels::RETORT_KERNELS_NS {

#if RETORT_KERNELS_LEVEL == 2
static constexpr int kTileRows = 14, kStripVectors = 2;
#elif RETORT_KERNELS_LEVEL == 1
static constexpr int kTileRows = 6, kStripVectors = 1;
#else
static constexpr int kTileRows = 2, kStripVectors = 1;
#endif
static constexpr int64_t kStrip = 16 * kStripVectors;
static constexpr int64_t kDepth = 256, kWidth = kPanelColumns;
static constexpr int64_t kRowBlock = 56 / kTileRows * kTileRows;
static constexpr int64_t kRowStride = kDepth + 16;

struct Panel {
  alignas(64) float strips[kWidth * kDepth];  // [strip][term][kStrip]
  alignas(64) float rows[kRowBlock * kRowStride];
  float* Strip(int64_t n) { return strips + n / kStrip * kStrip * kDepth + n % kStrip; }
};

// What becomes of a tile's sums.
struct Sums {
  float* y;
  int64_t stride, outputs;  // outputs of this strip, at most kStrip
  const float* bias;        // of the strip, or NULL
  bool add;                 // to y
};

// Not inlined: alone, every compiler keeps the sums in registers.
template <int kRows>
__attribute__((noinline)) static void Tile(const float* x, const float* strip, int64_t terms,
                                           const Sums& to, int64_t row) {
  F16 acc[kRows][kStripVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kStripVectors; ++v) acc[r][v] = F16::Zero();
  }
  for (int64_t k = 0; k < terms; ++k, strip += kStrip) {
    F16 w[kStripVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kStripVectors; ++v) w[v] = F16::Load(strip + 16 * v);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const F16 xr = F16::Set1(x[r * kRowStride + k]);
#pragma GCC unroll 2
      for (int v = 0; v < kStripVectors; ++v) acc[r][v] = Fma(xr, w[v], acc[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kStripVectors; ++v) {
      const int64_t n = to.outputs - 16 * v;
      const float* const bias = to.bias != nullptr ? to.bias + 16 * v : nullptr;
      if (n > 0) PutSums(acc[r][v], to.y + (row + r) * to.stride + 16 * v, n, to.add, bias);
    }
  }
}

template <int kRows = kTileRows>
static void AnyTile(int64_t rows, const float* x, const float* strip, int64_t terms, const Sums& to,
                    int64_t row) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return AnyTile<kRows - 1>(rows, x, strip, terms, to, row);
  }
  Tile<kRows>(x, strip, terms, to, row);
}

// All rows of a block against one strip, in tiles of about one size: the last would else be slow.
static void Tiles(const float* x, int64_t rows, const float* strip, int64_t terms, const Sums& to) {
  int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  for (int64_t r = 0; r < rows; --tiles) {
    const int64_t n = (rows - r + tiles - 1) / tiles;
    AnyTile(n, x + r * kRowStride, strip, terms, to, r);
    r += n;
  }
}

// What a panel holds: terms [k, k + terms) of outputs [n, n + outputs).
struct Part {
  int64_t k, terms, n, outputs;
};
static Part PartAt(int64_t k, int64_t k_end, int64_t n, int64_t n_end) {
  return {.k = k,
          .terms = k_end - k < kDepth ? k_end - k : kDepth,
          .n = n,
          .outputs = n_end - n < kWidth ? n_end - n : kWidth};
}

// x[:, k .. k + terms) against a filled panel.
static void MultiplyPanel(const PackedArgs& a, Panel* panel, const Part& part, bool add,
                          bool last) {
  for (int64_t m = 0; m < a.m; m += kRowBlock) {
    const int64_t rows = a.m - m < kRowBlock ? a.m - m : kRowBlock;
    for (int64_t r = 0; r < rows; ++r) {
      memcpy(panel->rows + r * kRowStride, a.x + (m + r) * a.x_stride + part.k,
             static_cast<size_t>(part.terms) * sizeof(float));
    }
    for (int64_t s = 0; s < part.outputs; s += kStrip) {
      const Sums to = {.y = a.y + m * a.y_stride + part.n + s,
                       .stride = a.y_stride,
                       .outputs = part.outputs - s < kStrip ? part.outputs - s : kStrip,
                       .bias = last && a.bias != nullptr ? a.bias + part.n + s : nullptr,
                       .add = add};
      Tiles(panel->rows, rows, panel->Strip(s), part.terms, to);
    }
  }
}

// Terms are columns of w.
static void FillOutputs(const PackedView& w, const Part& part, Panel* panel) {
  const int64_t strips_end = (part.outputs + kStrip - 1) / kStrip * kStrip;
  for (int64_t s = 0; s < strips_end; s += kGroup) {
    float* const out = panel->Strip(s);
    if (s < part.outputs) {
      WidenLanes(w, part.n + s, part.k, part.k + part.terms, out, kStrip);
      continue;
    }
    for (int64_t r = 0; r < part.terms; ++r) F16::Zero().Store(out + r * kStrip);
  }
}

void PanelOutputs(const PackedArgs& a, int64_t begin, int64_t end) {
  Panel panel;
  for (int64_t n = begin; n < end; n += kWidth) {
    for (int64_t k = 0; k == 0 || k < a.w.cols; k += kDepth) {
      const Part part = PartAt(k, a.w.cols, n, end);
      FillOutputs(a.w, part, &panel);
      MultiplyPanel(a, &panel, part, k > 0, k + kDepth >= a.w.cols);
    }
  }
}

// Terms are rows of w.
static void FillFromFloats(const PackedView& w, const Part& part, Panel* panel) {
  for (int64_t r = 0; r < part.terms; ++r) {
    for (int64_t s = 0; s < part.outputs; s += kStrip) {
      const int64_t columns = part.outputs - s < kStrip ? part.outputs - s : kStrip;
      float* const out = panel->Strip(s) + r * kStrip;
      WidenFloats(w, part.k + r, part.n + s, part.n + s + columns, out);
      for (int64_t c = columns; c < kStrip; ++c) out[c] = 0;
    }
  }
}
static void FillFromBlocks(const PackedView& w, const Part& part, Panel* panel) {
  alignas(64) float lanes[kWidth * kGroup];
  for (int64_t r = 0; r < part.terms; r += kGroup) {  // lanes past the last row meet no dy
    WidenLanes(w, part.k + r, part.n, part.n + part.outputs, lanes, kGroup);
    for (int64_t s = 0; s < part.outputs; s += kGroup) {
      Transpose16(lanes + s * kGroup, kGroup, panel->Strip(s) + r * kStrip, kStrip);
    }
  }
}

void PanelColumns(const PackedArgs& a, int64_t begin, int64_t end) {
  Panel panel;
  const auto fill = a.w.type <= RETORT_PACKED_BF16 ? FillFromFloats : FillFromBlocks;
  for (int64_t n = begin; n < end; n += kWidth) {
    for (int64_t k = 0; k == 0 || k < a.w.rows; k += kDepth) {
      const Part part = PartAt(k, a.w.rows, n, end);
      fill(a.w, part, &panel);
      MultiplyPanel(a, &panel, part, k > 0 || a.accumulate, false);
    }
  }
}

}  // namespace retort::kernels::RETORT_KERNELS_NS
