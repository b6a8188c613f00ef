// Packed matrices inside the library: where their planes lie, and the kernels of one level.
// Method: rows of a block type are interleaved by 16 (a group), so that vector lanes are outputs:
// four columns of 16 rows are 64 bytes (a quad: row r's four bytes at 4 r). No sum crosses lanes,
// each output is one chain over the columns, and cutting the columns into chunks, with y holding
// the sums meanwhile, changes no bit.
// Per group and 32 columns, the codes are 8 quads in less space:
//   Q8_0          8 x 64 bytes: quad q, code + 128
//   Q4_0, 1, K    4 x 64 bytes: quad q in the low nibbles, quad q + 4 in the high ones
//   Q6_K          those 4 x 64 for the low four bits, then 2 x 64: the two high bits of quads
//                 4 h .. 4 h + 3 at bits 0, 2, 4, 6 of byte plane h
// and the scales, in a plane of their own, per group:
//   Q8_0, Q4_0    per 32 columns  f16 d[16]
//   Q4_1          per 32 columns  f16 d[16], m[16]
//   Q4_K          per 256 columns f16 d[16], dmin[16], then 8 x (u8 scale[16], u8 min[16])
//   Q6_K          per 256 columns f16 d[16], then 16 x i8 scale[16]
// NF4: per group and two columns 16 bytes: row r's codes of the even column (low) and the odd one;
// per group and 64 columns u8 absmax[16]; then f32 scale of every 256 absmax in row order, and the
// f32 mean. The last group is padded with rows of zeros.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdint.h>

#include "retort/kernels/packed.h"

namespace retort::kernels {

constexpr int64_t kGroup = RETORT_PACKED_ROWS;

// A matrix with its planes found. Of the float types only `codes` is used: the rows themselves.
struct PackedView {
  int type = 0;
  int64_t rows = 0, cols = 0;
  const uint8_t* codes = nullptr;
  const uint8_t* scales = nullptr;
  int64_t codes_stride = 0, scales_stride = 0;  // bytes per group
  const float* nf4_scales = nullptr;
  const float* nf4_code = nullptr;     // the 16 values
  const float* nf4_dynamic = nullptr;  // the 256 values that absmax codes stand for
  float nf4_mean = 0;
};

struct PackedArgs {
  PackedView w;
  const float* x = nullptr;  // transposed: dy
  const float* bias = nullptr;
  float* y = nullptr;  // transposed: dx
  int64_t m = 0, x_stride = 0, y_stride = 0;
  bool accumulate = false;  // transposed only
};

// Ranges are of outputs, of columns of dx when transposed.
struct PackedTable {
  // Rows of f16 or bf16 as they are, against up to half_rows rows of x: beyond, panels are faster.
  int64_t half_rows;
  void (*half_outputs)(const PackedArgs&, int64_t begin, int64_t end);
  // Panels widened to f32; begin is a multiple of kGroup, or of kPanelColumns.
  void (*panel_outputs)(const PackedArgs&, int64_t begin, int64_t end);
  void (*panel_columns)(const PackedArgs&, int64_t begin, int64_t end);
};
constexpr int64_t kPanelColumns = 256;

// Integer products of block types; groups [begin, end).
using PackedDot = void (*)(const PackedArgs&, int64_t begin, int64_t end);

namespace portable {
extern const PackedTable kPacked;
void PackedDotGroups(const PackedArgs&, int64_t begin, int64_t end);
}  // namespace portable
namespace avx2 {
extern const PackedTable kPacked;
void PackedDotGroups(const PackedArgs&, int64_t begin, int64_t end);
}  // namespace avx2
namespace avx512 {
extern const PackedTable kPacked;
}
namespace avx512vnni {
void PackedDotGroups(const PackedArgs&, int64_t begin, int64_t end);
}

}  // namespace retort::kernels
