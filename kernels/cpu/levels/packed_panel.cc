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

// x[:, k .. k + terms) against a filled panel of `outputs` from output n on.
static void MultiplyPanel(const PackedArgs& a, Panel* panel, int64_t k, int64_t terms, int64_t n,
                          int64_t outputs, bool add, bool last) {
  for (int64_t m = 0; m < a.m; m += kRowBlock) {
    const int64_t rows = a.m - m < kRowBlock ? a.m - m : kRowBlock;
    for (int64_t r = 0; r < rows; ++r) {
      memcpy(panel->rows + r * kRowStride, a.x + (m + r) * a.x_stride + k,
             static_cast<size_t>(terms) * sizeof(float));
    }
    for (int64_t s = 0; s < outputs; s += kStrip) {
      const Sums to = {.y = a.y + m * a.y_stride + n + s,
                       .stride = a.y_stride,
                       .outputs = outputs - s < kStrip ? outputs - s : kStrip,
                       .bias = last && a.bias != nullptr ? a.bias + n + s : nullptr,
                       .add = add};
      Tiles(panel->rows, rows, panel->Strip(s), terms, to);
    }
  }
}

static void ZeroLanes(float* out, int64_t terms) {
  for (int64_t k = 0; k < terms; ++k) F16::Zero().Store(out + k * kStrip);
}

void PanelOutputs(const PackedArgs& a, int64_t begin, int64_t end) {
  Panel panel;
  const int64_t terms_all = a.w.cols;
  for (int64_t n = begin; n < end; n += kWidth) {
    const int64_t outputs = end - n < kWidth ? end - n : kWidth;
    for (int64_t k = 0; k == 0 || k < terms_all; k += kDepth) {
      const int64_t terms = terms_all - k < kDepth ? terms_all - k : kDepth;
      for (int64_t s = 0; s < (outputs + kStrip - 1) / kStrip * kStrip; s += kGroup) {
        if (s < outputs) {
          WidenLanes(a.w, n + s, k, k + terms, panel.Strip(s), kStrip);
        } else {
          ZeroLanes(panel.Strip(s), terms);
        }
      }
      MultiplyPanel(a, &panel, k, terms, n, outputs, k > 0, k + kDepth >= terms_all);
    }
  }
}

// Terms are rows of w here: rows [k, k + terms), columns [n, n + outputs) into the panel.
static void FillFromFloats(const PackedView& w, int64_t k, int64_t terms, int64_t n,
                           int64_t outputs, Panel* panel) {
  for (int64_t r = 0; r < terms; ++r) {
    for (int64_t s = 0; s < outputs; s += kStrip) {
      const int64_t columns = outputs - s < kStrip ? outputs - s : kStrip;
      float* const out = panel->Strip(s) + r * kStrip;
      WidenFloats(w, k + r, n + s, n + s + columns, out);
      for (int64_t c = columns; c < kStrip; ++c) out[c] = 0;
    }
  }
}
static void FillFromBlocks(const PackedView& w, int64_t k, int64_t terms, int64_t n,
                           int64_t outputs, Panel* panel) {
  alignas(64) float lanes[kWidth * kGroup];
  for (int64_t r = 0; r < terms; r += kGroup) {  // lanes past the last row are not multiplied
    WidenLanes(w, k + r, n, n + outputs, lanes, kGroup);
    for (int64_t s = 0; s < outputs; s += kGroup) {
      Transpose16(lanes + s * kGroup, kGroup, panel->Strip(s) + r * kStrip, kStrip);
    }
  }
}

void PanelColumns(const PackedArgs& a, int64_t begin, int64_t end) {
  Panel panel;
  const auto fill = a.w.type <= RETORT_PACKED_BF16 ? FillFromFloats : FillFromBlocks;
  for (int64_t n = begin; n < end; n += kWidth) {
    const int64_t outputs = end - n < kWidth ? end - n : kWidth;
    for (int64_t k = 0; k == 0 || k < a.w.rows; k += kDepth) {
      const int64_t terms = a.w.rows - k < kDepth ? a.w.rows - k : kDepth;
      fill(a.w, k, terms, n, outputs, &panel);
      MultiplyPanel(a, &panel, k, terms, n, outputs, k > 0 || a.accumulate, false);
    }
  }
}

}  // namespace retort::kernels::RETORT_KERNELS_NS
