// Large f32 products: c = sum of a b over a few terms.
// Method: a tile of kTileRows x kStrip sums stays in registers over a block of the depth; terms
// follow each other in it, so a low-rank second term costs no pass over c. Both operands are read
// where they lie: rows of a are broadcast, strips of kStrip columns of b meet all rows of a while a
// panel of them is in L2. Copies are made only where that can't be: of b stored [n, k], and of
// what has rows a multiple of 4096 bytes apart, which would meet in one set of the caches.
// A sum is one chain per block of the depth, and blocks are cut from k alone: neither rows nor
// threads change a bit.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/levels/levels.h"
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
static constexpr int64_t kDepth = 320;
static constexpr int64_t kWidth = 384;  // columns of a panel, by L2
static constexpr int64_t kRowBlock = 112 / kTileRows * kTileRows;
static constexpr int64_t kRowStride = kDepth + 16;
static constexpr int64_t kAhead = 8;  // steps of the depth between a prefetch and its use
static constexpr int64_t kCacheSet = 1024;

struct Panel {
  alignas(64) float strips[kWidth * kDepth];  // [strip][step][kStrip]
  alignas(64) float rows[kRowBlock * kRowStride];
};

// What one term gives to a block of the depth: `depth` steps.
struct Piece {
  const float* a = nullptr;        // of the first row
  const float* b = nullptr;        // of the first strip
  int64_t a_stride = 0;            // floats from row to row; turned: from step to step
  int64_t b_step = 0, b_next = 0;  // floats from step to step, from strip to strip
  int64_t depth = 0;
};
struct Block {
  Piece pieces[RETORT_GEMM_TERMS];
  int count = 0;
};

// Where a tile's sums go.
struct Target {
  float* c;
  int64_t stride, columns;
  bool add, turned;  // turned: c is stored [n, m]
};

template <int kRows, int kVectors>
static void PutTurned(const F16 (&acc)[kRows][kVectors], const Target& to) {
  for (int r = 0; r < kRows; ++r) {
    float sums[16 * kVectors];
    for (int v = 0; v < kVectors; ++v) acc[r][v].Store(sums + 16 * v);
    for (int64_t i = 0; i < to.columns && i < 16 * kVectors; ++i) {
      float* const c = to.c + i * to.stride + r;
      *c = to.add ? *c + sums[i] : sums[i];
    }
  }
}

// Not inlined: alone, every compiler keeps the sums in registers. kTurned: a is stored [k, m].
template <int kRows, int kVectors, bool kTurned>
__attribute__((noinline)) static void Tile(const Block& block, int64_t row, int64_t strip,
                                           const Target& to) {
  F16 acc[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      if (!to.turned) Prefetch(to.c + r * to.stride + 16 * v);
      acc[r][v] = F16::Zero();
    }
  }
  for (int p = 0; p < block.count; ++p) {
    const Piece& piece = block.pieces[p];
    const int64_t a_stride = piece.a_stride, b_step = piece.b_step;
    const float* a = piece.a + (kTurned ? row : row * a_stride);
    const float* b = piece.b + strip * piece.b_next;
    for (int64_t k = 0; k < piece.depth; ++k, b += b_step, a += kTurned ? a_stride : 1) {
      F16 w[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        w[v] = F16::Load(b + 16 * v);
        Prefetch(b + kAhead * b_step + 16 * v);
      }
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const F16 ar = F16::Set1(a[kTurned ? r : r * a_stride]);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) acc[r][v] = Fma(ar, w[v], acc[r][v]);
      }
    }
  }
  if (to.turned) return PutTurned<kRows, kVectors>(acc, to);
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const int64_t n = to.columns - 16 * v;
      if (n > 0) PutSums(acc[r][v], to.c + r * to.stride + 16 * v, n, to.add, nullptr);
    }
  }
}

template <int kVectors, bool kTurned, int kRows = kTileRows>
static void AnyTile(int64_t rows, const Block& block, int64_t row, int64_t strip,
                    const Target& to) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return AnyTile<kVectors, kTurned, kRows - 1>(rows, block, row, strip, to);
  }
  Tile<kRows, kVectors, kTurned>(block, row, strip, to);
}

// Rows against all strips, in tiles of about one size: the last would else be slow.
template <bool kTurned>
static void Tiles(const Block& block, int64_t rows, int64_t columns, const Target& all) {
  int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  for (int64_t r = 0; r < rows; --tiles) {
    const int64_t count = (rows - r + tiles - 1) / tiles;
    for (int64_t s = 0; s * kStrip < columns; ++s) {
      Target to = all;
      to.c += all.turned ? s * kStrip * all.stride + r : r * all.stride + s * kStrip;
      to.columns = columns - s * kStrip;
      if (kStripVectors == 1 || to.columns <= 16) {
        AnyTile<1, kTurned>(count, block, r, s, to);
      } else {
        AnyTile<kStripVectors, kTurned>(count, block, r, s, to);
      }
    }
    r += count;
  }
}

// Calls piece(term, its first step, its end, where it begins in the block) for the terms' parts in
// steps [begin, end) of the whole depth.
template <class Piece>
static void EachPiece(const BlockedArgs& g, int64_t begin, int64_t end, Piece piece) {
  int64_t at = 0;
  for (int t = 0; t < g.shape.n_terms; ++t) {
    const retort_gemm_term& term = g.terms[t];
    const int64_t from = begin > at ? begin : at, to = end < at + term.k ? end : at + term.k;
    if (from < to) piece(term, from - at, to - at, from - begin);
    at += term.k;
  }
}

// out[c * out_stride + r] = in[r * in_stride + c].
static void Turn(const float* in, int64_t in_stride, int64_t rows, int64_t cols, float* out,
                 int64_t out_stride) {
  for (int64_t r = 0; r < rows; r += 16) {
    for (int64_t c = 0; c < cols; c += 16) {
      if (rows - r >= 16 && cols - c >= 16) {
        Transpose16(in + r * in_stride + c, in_stride, out + c * out_stride + r, out_stride);
        continue;
      }
      for (int64_t i = r; i < rows && i < r + 16; ++i) {
        for (int64_t j = c; j < cols && j < c + 16; ++j) {
          out[j * out_stride + i] = in[i * in_stride + j];
        }
      }
    }
  }
}

// Lanes past the last column meet sums that nobody stores.
static void FillStrips(const retort_gemm_term& term, int64_t begin, int64_t end, int64_t n,
                       int64_t n_end, float* strips) {
  for (int64_t s = n; s < n_end; s += kStrip, strips += kStrip * kDepth) {
    const int64_t columns = n_end - s < kStrip ? n_end - s : kStrip;
    if (columns % 16 != 0) {
      memset(strips, 0, static_cast<size_t>((end - begin) * kStrip) * sizeof(float));
    }
    if (term.b_transposed != 0) {
      Turn(term.b + s * term.b_stride + begin, term.b_stride, columns, end - begin, strips, kStrip);
      continue;
    }
    for (int64_t i = begin; i < end; ++i) {
      memcpy(strips + (i - begin) * kStrip, term.b + i * term.b_stride + s,
             static_cast<size_t>(columns) * sizeof(float));
    }
  }
}

static void CopyRows(const retort_gemm_term& term, int64_t begin, int64_t end, int64_t m,
                     int64_t m_end, float* rows) {
  if (term.a_transposed != 0) {
    return Turn(term.a + begin * term.a_stride + m, term.a_stride, end - begin, m_end - m, rows,
                kRowStride);
  }
  for (int64_t r = m; r < m_end; ++r) {
    memcpy(rows + (r - m) * kRowStride, term.a + r * term.a_stride + begin,
           static_cast<size_t>(end - begin) * sizeof(float));
  }
}

// Equal parts of `total`, each at most `most` and a multiple of `granule`.
static int64_t EvenPart(int64_t total, int64_t most, int64_t granule) {
  const int64_t parts = (total + most - 1) / most;
  return ((total + parts - 1) / parts + granule - 1) / granule * granule;
}

// How the operands of a call are read.
struct Reading {
  bool turned = true;  // every a is stored [k, m], and read so
  bool b_in_place = true;
  int64_t depth = 0;
};
static Reading ReadingOf(const BlockedArgs& g, int64_t columns) {
  Reading reading;
  for (int t = 0; t < g.shape.n_terms; ++t) {
    const retort_gemm_term& term = g.terms[t];
    reading.depth += term.k;
    reading.turned = reading.turned && term.a_transposed != 0 && term.a_stride % kCacheSet != 0;
    reading.b_in_place = reading.b_in_place && term.b_transposed == 0 &&
                         term.b_stride % kCacheSet != 0 && columns % 16 == 0;
  }
  return reading;
}

static void MultiplyPanel(const BlockedArgs& g, const BlockedRange& range, const Reading& reading,
                          int64_t k, int64_t k_end, Panel* panel) {
  Block block;
  EachPiece(g, k, k_end, [&](const retort_gemm_term& term, int64_t begin, int64_t end, int64_t at) {
    Piece& piece = block.pieces[block.count++];
    piece = {.b = panel->strips + at * kStrip, .b_step = kStrip, .b_next = kStrip * kDepth};
    piece.depth = end - begin;
    if (reading.b_in_place) {
      piece.b = term.b + begin * term.b_stride + range.n;
      piece.b_step = term.b_stride;
      piece.b_next = kStrip;
    } else {
      FillStrips(term, begin, end, range.n, range.n_end, panel->strips + at * kStrip);
    }
  });
  const bool turned = g.shape.c_transposed != 0;
  for (int64_t m = range.m; m < range.m_end; m += kRowBlock) {
    const int64_t m_end = range.m_end - m < kRowBlock ? range.m_end : m + kRowBlock;
    int p = 0;
    EachPiece(g, k, k_end,
              [&](const retort_gemm_term& term, int64_t begin, int64_t end, int64_t at) {
                Piece& piece = block.pieces[p++];
                piece.a_stride = term.a_stride;
                if (reading.turned) {
                  piece.a = term.a + begin * term.a_stride + m;
                } else if (term.a_transposed == 0 && term.a_stride % kCacheSet != 0) {
                  piece.a = term.a + m * term.a_stride + begin;
                } else {
                  CopyRows(term, begin, end, m, m_end, panel->rows + at);
                  piece.a = panel->rows + at;
                  piece.a_stride = kRowStride;
                }
              });
    const Target to = {
        .c = g.c + (turned ? range.n * g.shape.c_stride + m : m * g.shape.c_stride + range.n),
        .stride = g.shape.c_stride,
        .columns = 0,
        .add = k > 0 || g.shape.accumulate != 0,
        .turned = turned};
    auto* const tiles = reading.turned ? Tiles<true> : Tiles<false>;
    tiles(block, m_end - m, range.n_end - range.n, to);
  }
}

void BlockedGemm(const BlockedArgs& g, const BlockedRange& range) {
  Panel panel;
  const int64_t columns = range.n_end - range.n;
  const Reading reading = ReadingOf(g, columns);
  const bool few_rows = range.m_end - range.m <= kBlockedFewRows;
  const int64_t widest = reading.b_in_place && few_rows ? columns : kWidth;
  const int64_t width = EvenPart(columns, widest, kStrip);
  const int64_t steps = EvenPart(reading.depth, kDepth, 1);
  for (int64_t n = range.n; n < range.n_end; n += width) {
    const BlockedRange part = {.m = range.m,
                               .m_end = range.m_end,
                               .n = n,
                               .n_end = range.n_end - n < width ? range.n_end : n + width};
    for (int64_t k = 0; k < reading.depth; k += steps) {
      const int64_t k_end = reading.depth - k < steps ? reading.depth : k + steps;
      MultiplyPanel(g, part, reading, k, k_end, &panel);
    }
  }
}

}  // namespace retort::kernels::RETORT_KERNELS_NS
