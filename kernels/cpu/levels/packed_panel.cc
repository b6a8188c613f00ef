// Products with a packed matrix through panels widened to f32: y = x . w^T and dx = dy . w.
// Method: a panel of up to kDepth terms by as many outputs as L2 holds is widened once, as strips
// of kStrip outputs in the order the inner loop reads them; all rows of x stream past it, and a
// tile of kTileRows x kStrip sums stays in registers. Meanwhile the weights of the next panel are
// fetched. Rows whose distance would bring them all into one set of L1 are copied first.
// Sums of one output run over the terms in order, a partial sum per kDepth: which rows share a
// tile, or which thread has the output, changes no bit.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/levels/packed_widen.h"

namespace retort::kernels::RETORT_KERNELS_NS {

#if RETORT_KERNELS_LEVEL == 2
static constexpr int kTileRows = 14, kStripVectors = 2;
static constexpr int64_t kPanelFloats = 96 * 1024;
#elif RETORT_KERNELS_LEVEL == 1
static constexpr int kTileRows = 6, kStripVectors = 1;
static constexpr int64_t kPanelFloats = 64 * 1024;  // L2 may be small
#else
static constexpr int kTileRows = 2, kStripVectors = 1;
static constexpr int64_t kPanelFloats = 64 * 1024;
#endif
static constexpr int64_t kStrip = 16 * kStripVectors;
static constexpr int64_t kDepth = 1536;                                 // terms are columns of w
static constexpr int64_t kColumnsDepth = kPanelFloats / kPanelColumns;  // terms are rows of w
static constexpr int64_t kRowStride = kDepth + 16;
static constexpr int64_t kL1WayFloats = 1024;  // 64 sets of 64 bytes

static inline int64_t WholeGroups(int64_t n) { return (n + kGroup - 1) / kGroup * kGroup; }

struct Panel {
  alignas(64) float strips[kPanelFloats];  // [strip][term][kStrip]
  alignas(64) float rows[kTileRows * kRowStride];
};

// What a panel holds: terms [k, k + terms) of outputs [n, n + outputs).
struct Part {
  int64_t k, terms, n, outputs;
  int64_t StripAt(int64_t output) const {
    return output / kStrip * kStrip * WholeGroups(terms) + output % kStrip;
  }
};

// What becomes of a tile's sums.
struct Sums {
  float* y;
  int64_t stride, outputs;  // outputs of this strip, at most kStrip
  const float* bias;        // of the strip, or NULL
  bool add;                 // to y
};

// kRows rows of x, or a copy of them.
struct TileInput {
  const float* x;
  int64_t stride;
  const float* strip;
  int64_t terms;
  const char* ahead;  // lines to fetch, one per kTermsPerLine
};
static constexpr int64_t kTermsPerLine = 8;

// Not inlined: alone, every compiler keeps the sums in registers.
template <int kRows>
__attribute__((noinline)) static void Tile(const TileInput& in, const Sums& to) {
  F16 acc[kRows][kStripVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kStripVectors; ++v) acc[r][v] = F16::Zero();
  }
  const float *x = in.x, *strip = in.strip;
  const char* ahead = in.ahead;
  const int64_t stride = in.stride;
  for (int64_t left = in.terms; left > 0; left -= kTermsPerLine, ahead += 64) {
    Prefetch(ahead);
    const int64_t n = left < kTermsPerLine ? left : kTermsPerLine;
    for (int64_t k = 0; k < n; ++k, ++x, strip += kStrip) {
      F16 w[kStripVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kStripVectors; ++v) w[v] = F16::Load(strip + 16 * v);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const F16 xr = F16::Set1(x[r * stride]);
#pragma GCC unroll 2
        for (int v = 0; v < kStripVectors; ++v) acc[r][v] = Fma(xr, w[v], acc[r][v]);
      }
    }
  }
  alignas(64) float sums[kRows * kStrip];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kStripVectors; ++v) acc[r][v].Store(sums + r * kStrip + 16 * v);
  }
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t v = 0; v < to.outputs; v += 16) {
      const float* const bias = to.bias != nullptr ? to.bias + v : nullptr;
      PutSums(F16::Load(sums + r * kStrip + v), to.y + r * to.stride + v, to.outputs - v, to.add,
              bias);
    }
  }
}

template <int kRows = kTileRows>
static void AnyTile(int64_t rows, const TileInput& in, const Sums& to) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return AnyTile<kRows - 1>(rows, in, to);
  }
  Tile<kRows>(in, to);
}

// Bytes of w that the next panel will widen, fetched bit by bit.
class Ahead {
 public:
  Ahead(const uint8_t* begin, int64_t bytes, const float* idle)
      : at_(reinterpret_cast<const char*>(begin)),
        end_(at_ + bytes),
        idle_(reinterpret_cast<const char*>(idle)) {}
  // Where a tile of so many terms shall fetch; once all is there, something that is near anyway.
  const char* Take(int64_t terms) {
    if (at_ >= end_) return idle_;
    const char* const at = at_;
    at_ += (terms + kTermsPerLine - 1) / kTermsPerLine * 64;
    return at;
  }

 private:
  const char *at_, *end_, *idle_;
};

// x[:, k .. k + terms) against a filled panel; rows in tiles of about one size: the last would else
// be slow.
static void MultiplyPanel(const PackedArgs& a, Panel* panel, const Part& part, bool add, bool last,
                          Ahead ahead) {
  const bool copies = a.x_stride % kL1WayFloats == 0;
  int64_t tiles = (a.m + kTileRows - 1) / kTileRows;
  for (int64_t m = 0; m < a.m; --tiles) {
    const int64_t rows = (a.m - m + tiles - 1) / tiles;
    const float* const x = a.x + m * a.x_stride + part.k;
    TileInput in = {
        .x = x, .stride = a.x_stride, .strip = nullptr, .terms = part.terms, .ahead = nullptr};
    if (copies) {
      for (int64_t r = 0; r < rows; ++r) {
        memcpy(panel->rows + r * kRowStride, x + r * a.x_stride,
               static_cast<size_t>(part.terms) * sizeof(float));
      }
      in.x = panel->rows;
      in.stride = kRowStride;
    }
    for (int64_t s = 0; s < part.outputs; s += kStrip) {
      const Sums to = {.y = a.y + m * a.y_stride + part.n + s,
                       .stride = a.y_stride,
                       .outputs = part.outputs - s < kStrip ? part.outputs - s : kStrip,
                       .bias = last && a.bias != nullptr ? a.bias + part.n + s : nullptr,
                       .add = add};
      in.strip = panel->strips + part.StripAt(s);
      in.ahead = ahead.Take(part.terms);
      AnyTile(rows, in, to);
    }
    m += rows;
  }
}

// Terms are columns of w.
static void FillOutputs(const PackedView& w, const Part& part, Panel* panel) {
  const int64_t strips_end = (part.outputs + kStrip - 1) / kStrip * kStrip;
  for (int64_t s = 0; s < strips_end; s += kGroup) {
    float* const out = panel->strips + part.StripAt(s);
    if (s < part.outputs) {
      WidenLanes(w, part.n + s, part.k, part.k + part.terms, out, kStrip);
      continue;
    }
    for (int64_t r = 0; r < part.terms; ++r) F16::Zero().Store(out + r * kStrip);
  }
}

// Rows of floats that are widened next, where they lie in one piece.
static Ahead NextRows(const PackedView& w, int64_t begin, int64_t n, const Panel& panel) {
  const bool pieces = w.type > RETORT_PACKED_BF16 || w.cols > kDepth;
  const int64_t bytes = w.type == RETORT_PACKED_F32 ? 4 : 2;
  return {w.codes + begin * w.cols * bytes, pieces ? 0 : n * w.cols * bytes, panel.strips};
}

void PanelOutputs(const PackedArgs& a, int64_t begin, int64_t end) {
  Panel panel;
  const int64_t deepest = WholeGroups(a.w.cols < kDepth ? a.w.cols : kDepth);
  const int64_t strips = deepest > 0 ? kPanelFloats / (deepest * kStrip) : end;
  int64_t panels = (end - begin + strips * kStrip - 1) / (strips * kStrip);
  for (int64_t n = begin; n < end; --panels) {  // of about one size
    const int64_t share = (end - n + panels - 1) / panels;
    const int64_t width = (share + kStrip - 1) / kStrip * kStrip;
    const int64_t outputs = end - n < width ? end - n : width, left = end - n - outputs;
    const Ahead next = NextRows(a.w, n + outputs, left < outputs ? left : outputs, panel);
    for (int64_t k = 0; k == 0 || k < a.w.cols; k += kDepth) {
      const int64_t terms = a.w.cols - k < kDepth ? a.w.cols - k : kDepth;
      const Part part = {.k = k, .terms = terms, .n = n, .outputs = outputs};
      FillOutputs(a.w, part, &panel);
      MultiplyPanel(a, &panel, part, k > 0, k + kDepth >= a.w.cols, next);
    }
    n += outputs;
  }
}

// Terms are rows of w.
static void FillFromFloats(const PackedView& w, const Part& part, Panel* panel) {
  for (int64_t r = 0; r < part.terms; ++r) {
    for (int64_t s = 0; s < part.outputs; s += kStrip) {
      const int64_t columns = part.outputs - s < kStrip ? part.outputs - s : kStrip;
      float* const out = panel->strips + part.StripAt(s) + r * kStrip;
      WidenFloats(w, part.k + r, part.n + s, part.n + s + columns, out);
      for (int64_t c = columns; c < kStrip; ++c) out[c] = 0;
    }
  }
}
static void FillFromBlocks(const PackedView& w, const Part& part, Panel* panel) {
  alignas(64) float lanes[kPanelColumns * kGroup];
  for (int64_t r = 0; r < part.terms; r += kGroup) {  // lanes past the last row meet no dy
    WidenLanes(w, part.k + r, part.n, part.n + part.outputs, lanes, kGroup);
    for (int64_t s = 0; s < part.outputs; s += kGroup) {
      Transpose16(lanes + s * kGroup, kGroup, panel->strips + part.StripAt(s) + r * kStrip, kStrip);
    }
  }
}

void PanelColumns(const PackedArgs& a, int64_t begin, int64_t end) {
  Panel panel;
  const auto fill = a.w.type <= RETORT_PACKED_BF16 ? FillFromFloats : FillFromBlocks;
  for (int64_t n = begin; n < end; n += kPanelColumns) {
    const int64_t outputs = end - n < kPanelColumns ? end - n : kPanelColumns;
    for (int64_t k = 0; k == 0 || k < a.w.rows; k += kColumnsDepth) {
      const int64_t terms = a.w.rows - k < kColumnsDepth ? a.w.rows - k : kColumnsDepth;
      const Part part = {.k = k, .terms = terms, .n = n, .outputs = outputs};
      fill(a.w, part, &panel);
      MultiplyPanel(a, &panel, part, k > 0 || a.accumulate, false, {nullptr, 0, panel.strips});
    }
  }
}

}  // namespace retort::kernels::RETORT_KERNELS_NS
