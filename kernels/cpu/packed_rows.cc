// Single rows of a packed matrix as f32: embeddings, merging, comparing. Plain loops: a row is
// short beside the products that its matrix takes part in.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/half.h"
#include "kernels/cpu/packed_layout.h"
#include "kernels/cpu/packed_nf4.h"

namespace retort::kernels {
namespace {

// One row of a group, at one block.
struct RowBlock {
  const uint8_t* codes;
  const uint8_t* scales;
  int64_t lane;
  float Half(int64_t at) const { return HalfToFloat(LoadU16(scales + at + 2 * lane)); }
  int Byte(int64_t column) const { return codes[column / 4 * 64 + 4 * lane + column % 4]; }
  int Nibble(int64_t column) const { return Byte(column % 16) >> (column / 16 * 4) & 15; }
};

void RowQ8_0(const RowBlock& b, float* out) {
  const float d = b.Half(0);
  for (int c = 0; c < 32; ++c) out[c] = d * static_cast<float>(b.Byte(c) - 128);
}
void RowQ4_0(const RowBlock& b, float* out) {
  const float d = b.Half(0);
  for (int c = 0; c < 32; ++c) out[c] = d * static_cast<float>(b.Nibble(c) - 8);
}
void RowQ4_1(const RowBlock& b, float* out) {
  const float d = b.Half(0), m = b.Half(32);
  for (int c = 0; c < 32; ++c) out[c] = d * static_cast<float>(b.Nibble(c)) + m;
}
void RowQ4_K(const RowBlock& b, float* out) {
  const float d = b.Half(0), d_min = b.Half(32);
  RowBlock part = b;
  for (int j = 0; j < 8; ++j, part.codes += 256) {
    const float scale = d * static_cast<float>(b.scales[64 + 32 * j + b.lane]);
    const float minimum = d_min * static_cast<float>(b.scales[80 + 32 * j + b.lane]);
    for (int c = 0; c < 32; ++c) {
      out[32 * j + c] = scale * static_cast<float>(part.Nibble(c)) - minimum;
    }
  }
}
void RowQ6_K(const RowBlock& b, float* out) {
  const float d = b.Half(0);
  RowBlock part = b;
  for (int j = 0; j < 8; ++j, part.codes += 384) {
    for (int c = 0; c < 32; ++c) {
      const auto scale = static_cast<int8_t>(b.scales[32 + 16 * (2 * j + c / 16) + b.lane]);
      const int high = part.Byte(16 + c / 16 * 4 + c % 4) >> (c / 4 % 4 * 2) & 3;
      out[32 * j + c] =
          d * static_cast<float>(scale) * static_cast<float>((part.Nibble(c) | high << 4) - 32);
    }
  }
}

using RowKernel = void (*)(const RowBlock&, float*);
constexpr RowKernel kKernels[RETORT_PACKED_TYPES] = {nullptr, nullptr, nullptr, RowQ8_0, RowQ4_0,
                                                     RowQ4_1, RowQ4_K, RowQ6_K, nullptr};

void RowNf4(const PackedView& w, int64_t row, float* out) {
  const int64_t blocks = w.cols / kNf4Block, lane = row % kGroup;
  const uint8_t* const codes = w.codes + row / kGroup * w.codes_stride;
  const uint8_t* const absmaxes = w.scales + row / kGroup * w.scales_stride;
  for (int64_t b = 0; b < blocks; ++b) {
    const float absmax = w.nf4_dynamic[absmaxes[b * kGroup + lane]] *
                             w.nf4_scales[(row * blocks + b) / kNf4ScaleBlock] +
                         w.nf4_mean;
    for (int64_t i = 32 * b; i < 32 * (b + 1); ++i) {
      const uint8_t both = codes[16 * i + lane];
      out[2 * i] = w.nf4_code[both & 15] * absmax;
      out[2 * i + 1] = w.nf4_code[both >> 4] * absmax;
    }
  }
}

void RowOfFloats(const PackedView& w, int64_t row, float* out) {
  if (w.type == RETORT_PACKED_F32) {
    memcpy(out, w.codes + row * w.cols * 4, static_cast<size_t>(w.cols) * sizeof(float));
    return;
  }
  const uint8_t* const halves = w.codes + row * w.cols * 2;
  const bool bf16 = w.type == RETORT_PACKED_BF16;
  for (int64_t c = 0; c < w.cols; ++c) {
    const uint16_t bits = LoadU16(halves + 2 * c);
    out[c] = bf16 ? Bf16ToFloat(bits) : HalfToFloat(bits);
  }
}

void Row(const PackedView& w, int64_t row, float* out) {
  if (w.type <= RETORT_PACKED_BF16) return RowOfFloats(w, row, out);
  if (w.type == RETORT_PACKED_NF4) return RowNf4(w, row, out);
  const PackedType& t = *FindPackedType(w.type);
  RowBlock block = {.codes = w.codes + row / kGroup * w.codes_stride,
                    .scales = w.scales + row / kGroup * w.scales_stride,
                    .lane = row % kGroup};
  for (int64_t c = 0; c < w.cols; c += t.weights) {
    kKernels[w.type](block, out + c);
    block.codes += t.codes_bytes;
    block.scales += t.scales_bytes;
  }
}

}  // namespace
}  // namespace retort::kernels

using namespace retort::kernels;  // NOLINT: this file is the C interface of that namespace

extern "C" {

void retort_packed_rows_f32(const retort_packed_matrix* matrix, int64_t row_begin, int64_t row_end,
                            float* out, int64_t out_stride) noexcept {
  const PackedView view = ViewOf(*matrix);
  const int64_t stride = OrElse(out_stride, view.cols);
  for (int64_t row = row_begin; row < row_end; ++row) {
    Row(view, row, out + (row - row_begin) * stride);
  }
}

void retort_packed_embed_f32(const retort_packed_matrix* w, const int32_t* ids, int64_t n,
                             double scale, float* y, int64_t y_stride, int n_threads) noexcept {
  const PackedView view = ViewOf(*w);
  const int64_t stride = OrElse(y_stride, view.cols);
  const auto factor = static_cast<float>(scale);
  Split(n, 1, n * view.cols, n_threads, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      float* const out = y + r * stride;
      Row(view, ids[r], out);
      for (int64_t c = 0; factor != 1 && c < view.cols; ++c) out[c] *= factor;
    }
  });
}

}  // extern "C"
