// y = x . w^T for GGUF's block types, with x rounded to int8 per 32 columns.
// Method: some rows of x are rounded once into the stack, as tiles of rows beside each other; each
// group of 16 outputs then streams past all tiles. The first tile reads the group from memory, the
// others find it in a cache. Integer sums of 32 columns are exact; they join one chain of f32
// multiply-adds per output. Long rows go in chunks, y holding the sums between.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/levels/packed_round.h"
#include "kernels/cpu/packed_table.h"

namespace retort::kernels::RETORT_KERNELS_NS {

static constexpr int64_t kRowsTogether = 64;
static constexpr int64_t kXBlocks = 4096;     // rounded, 192 kB
static constexpr int64_t kAheadBytes = 2048;  // of codes

// ---- the types: a unit is what their scales belong to ------------------------------------------

template <int kRows>
static inline void Start(const XBlock* x, int half, Ints (&sums)[kRows]) {
  for (int r = 0; r < kRows; ++r) sums[r] = Ints::Set1(x[r].start[half]);
}

template <class Code, int kOffsetOfCodes>
struct OneScale {  // Q8_0, Q4_0
  static constexpr Rounding kRounding = {kOffsetOfCodes, false};
  static constexpr int64_t kBlocks = 1, kCodes = __is_same(Code, Bytes) ? 512 : 256, kScales = 32;
  template <int kRows>
  static inline void Unit(const uint8_t* codes, const uint8_t* scales, const XBlock* x,
                          F16 (&acc)[kRows]) {
    Ints sums[kRows];
    Start(x, 0, sums);
    AddQuads<Code, 0, 8>(codes, x, sums);
    const F16 d = LoadHalves(scales);
    for (int r = 0; r < kRows; ++r) {
      acc[r] = Fma(ToFloat(sums[r]), d * F16::Set1(x[r].scale), acc[r]);
    }
  }
};
using Q8_0 = OneScale<Bytes, kByteOffset>;
using Q4_0 = OneScale<Nibbles, 8>;

// 32 columns of w = scale * code + minimum.
template <int kRows>
static inline void AddAffine(const uint8_t* codes, F16 scale, F16 minimum, const XBlock* x,
                             F16 (&acc)[kRows]) {
  Ints sums[kRows];
  Start(x, 0, sums);
  AddQuads<Nibbles, 0, 8>(codes, x, sums);
  for (int r = 0; r < kRows; ++r) {
    acc[r] = Fma(minimum, F16::Set1(x[r].scaled_sum), acc[r]);
    acc[r] = Fma(ToFloat(sums[r]), scale * F16::Set1(x[r].scale), acc[r]);
  }
}

struct Q4_1 {
  static constexpr Rounding kRounding = {0, false};
  static constexpr int64_t kBlocks = 1, kCodes = 256, kScales = 64;
  template <int kRows>
  static inline void Unit(const uint8_t* codes, const uint8_t* scales, const XBlock* x,
                          F16 (&acc)[kRows]) {
    AddAffine(codes, LoadHalves(scales), LoadHalves(scales + 32), x, acc);
  }
};

struct Q4_K {
  static constexpr Rounding kRounding = {0, false};
  static constexpr int64_t kBlocks = 8, kCodes = 2048, kScales = 320;
  template <int kRows>
  static inline void Unit(const uint8_t* codes, const uint8_t* scales, const XBlock* x,
                          F16 (&acc)[kRows]) {
    const F16 d = LoadHalves(scales), d_min = F16::Zero() - LoadHalves(scales + 32);
    for (int b = 0; b < 8; ++b, codes += 256, x += kRows) {
      const F16 scale = d * ToFloat(Ints::OfBytes(scales + 64 + 32 * b));
      const F16 minimum = d_min * ToFloat(Ints::OfBytes(scales + 80 + 32 * b));
      AddAffine(codes, scale, minimum, x, acc);
    }
  }
};

struct Q6_K {
  static constexpr Rounding kRounding = {32, true};
  static constexpr int64_t kBlocks = 8, kCodes = 3072, kScales = 288;
  template <int kRows>
  static inline void Unit(const uint8_t* codes, const uint8_t* scales, const XBlock* x,
                          F16 (&acc)[kRows]) {
    const F16 d = LoadHalves(scales);
    for (int b = 0; b < 8; ++b, codes += 384, x += kRows) {
      Ints first[kRows], second[kRows];
      Start(x, 0, first);
      AddQuads<Sixes, 0, 4>(codes, x, first);
      Start(x, 1, second);
      AddQuads<Sixes, 4, 8>(codes, x, second);
      const Ints scale0 = Ints::OfSignedBytes(scales + 32 + 32 * b);
      const Ints scale1 = Ints::OfSignedBytes(scales + 48 + 32 * b);
      for (int r = 0; r < kRows; ++r) {
        const Ints sum = first[r] * scale0 + second[r] * scale1;
        acc[r] = Fma(ToFloat(sum), d * F16::Set1(x[r].scale), acc[r]);
      }
    }
  }
};

// ---- tiles -------------------------------------------------------------------------------------

// A chunk of one group: n_units units, and where its sums go.
struct Chunk {
  const uint8_t* codes;
  const uint8_t* scales;
  int64_t n_units, outputs;
  const float* bias;  // of the group if the chunk is the last, else NULL
  bool add;           // it is not the first
};

// Not inlined: alone, every compiler keeps the sums in registers.
template <class T, int kRows>
__attribute__((noinline)) static void Tile(const Chunk& c, const XBlock* x, float* y,
                                           int64_t y_stride) {
  F16 acc[kRows];
  for (int r = 0; r < kRows; ++r) {
    acc[r] = !c.add           ? F16::Zero()
             : c.outputs < 16 ? F16::LoadPart(y + r * y_stride, c.outputs)
                              : F16::Load(y + r * y_stride);
  }
  const uint8_t *codes = c.codes, *scales = c.scales;
  for (int64_t u = 0; u < c.n_units; ++u) {
    for (int64_t line = 0; line < T::kCodes; line += 64) Prefetch(codes + kAheadBytes + line);
    T::Unit(codes, scales, x, acc);
    codes += T::kCodes;
    scales += T::kScales;
    x += kRows * T::kBlocks;
  }
  for (int r = 0; r < kRows; ++r) PutSums(acc[r], y + r * y_stride, c.outputs, false, c.bias);
}

template <class T, int kRows = kTileX>
static void AnyTile(int64_t rows, const Chunk& c, const XBlock* x, float* y, int64_t y_stride) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return AnyTile<T, kRows - 1>(rows, c, x, y, y_stride);
  }
  Tile<T, kRows>(c, x, y, y_stride);
}

// Columns from x + 0 of `rows` rows into tiles of kTileX rows: [tile][block][row].
static void RoundRows(const float* x, int64_t x_stride, int64_t rows, int64_t blocks, Rounding how,
                      XBlock* out) {
  for (int64_t first = 0; first < rows; first += kTileX) {
    const int64_t n = rows - first < kTileX ? rows - first : kTileX;
    for (int64_t r = 0; r < n; ++r) {
      const float* const row = x + (first + r) * x_stride;
      for (int64_t b = 0; b < blocks; ++b) RoundBlock(row + 32 * b, how, out + b * n + r);
    }
    out += n * blocks;
  }
}

template <class T>
static void Groups(const PackedArgs& a, int64_t begin, int64_t end) {
  alignas(64) XBlock rounded[kXBlocks];
  const int64_t blocks_all = a.w.cols / 32;
  for (int64_t m = 0; m < a.m; m += kRowsTogether) {
    const int64_t rows = a.m - m < kRowsTogether ? a.m - m : kRowsTogether;
    const int64_t step = kXBlocks / rows / 8 * 8;  // whole units
    for (int64_t k = 0; k == 0 || k < blocks_all; k += step) {
      const int64_t blocks = blocks_all - k < step ? blocks_all - k : step;
      RoundRows(a.x + m * a.x_stride + 32 * k, a.x_stride, rows, blocks, T::kRounding, rounded);
      const bool last = k + step >= blocks_all;
      for (int64_t g = begin; g < end; ++g) {
        const int64_t o = g * kGroup, left = a.w.rows - o;
        const Chunk chunk = {
            .codes = a.w.codes + g * a.w.codes_stride + k / T::kBlocks * T::kCodes,
            .scales = a.w.scales + g * a.w.scales_stride + k / T::kBlocks * T::kScales,
            .n_units = blocks / T::kBlocks,
            .outputs = left < kGroup ? left : kGroup,
            .bias = last && a.bias != nullptr ? a.bias + o : nullptr,
            .add = k > 0};
        const XBlock* x = rounded;
        for (int64_t r = 0; r < rows; r += kTileX) {
          const int64_t n = rows - r < kTileX ? rows - r : kTileX;
          AnyTile<T>(n, chunk, x, a.y + (m + r) * a.y_stride + o, a.y_stride);
          x += n * blocks;
        }
      }
    }
  }
}

void PackedDotGroups(const PackedArgs& args, int64_t begin, int64_t end) {
  switch (args.w.type) {
    case RETORT_PACKED_Q8_0: return Groups<Q8_0>(args, begin, end);
    case RETORT_PACKED_Q4_0: return Groups<Q4_0>(args, begin, end);
    case RETORT_PACKED_Q4_1: return Groups<Q4_1>(args, begin, end);
    case RETORT_PACKED_Q4_K: return Groups<Q4_K>(args, begin, end);
    case RETORT_PACKED_Q6_K: return Groups<Q6_K>(args, begin, end);
    default: return;
  }
}

}  // namespace retort::kernels::RETORT_KERNELS_NS
