// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/packed_layout.h"

#include <string.h>

#include "kernels/cpu/packed_nf4.h"

namespace retort::kernels {
namespace {

constexpr PackedType kTypes[RETORT_PACKED_TYPES] = {
    {1, 4, 0, 0},           // F32
    {1, 2, 0, 0},           // F16
    {1, 2, 0, 0},           // BF16
    {32, 34, 512, 32},      // Q8_0
    {32, 18, 256, 32},      // Q4_0
    {32, 20, 256, 64},      // Q4_1
    {256, 144, 2048, 320},  // Q4_K
    {256, 210, 3072, 288},  // Q6_K
    {64, 36, 512, 16},      // NF4
};

constexpr int64_t AlignUp(int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

const PackedType* FindPackedType(int type) noexcept {
  return type >= 0 && type < RETORT_PACKED_TYPES ? &kTypes[type] : nullptr;
}

PackedPlanes PlanesOf(int type, int64_t rows, int64_t cols) noexcept {
  const PackedType& t = kTypes[type];
  PackedPlanes p = {.groups = (rows + kGroup - 1) / kGroup, .blocks = cols / t.weights};
  if (t.codes_bytes == 0) {
    p.bytes = rows * cols * t.file_bytes;
    return p;
  }
  p.codes_stride = p.blocks * t.codes_bytes;
  p.scales_stride = p.blocks * t.scales_bytes;
  p.scales_at = AlignUp(p.groups * p.codes_stride);
  p.bytes = AlignUp(p.scales_at + p.groups * p.scales_stride);
  if (type == RETORT_PACKED_NF4) {
    p.nf4_scales_at = p.bytes;
    p.nf4_mean_at = p.nf4_scales_at + Nf4ScaleCount(rows * p.blocks) * int64_t{sizeof(float)};
    p.bytes = AlignUp(p.nf4_mean_at + int64_t{sizeof(float)});
  }
  return p;
}

PackedView ViewOf(const retort_packed_matrix& matrix) noexcept {
  const PackedPlanes p = PlanesOf(matrix.type, matrix.rows, matrix.cols);
  const auto* base = static_cast<const uint8_t*>(matrix.data);
  PackedView view = {.type = matrix.type,
                     .rows = matrix.rows,
                     .cols = matrix.cols,
                     .codes = base,
                     .scales = base + p.scales_at,
                     .codes_stride = p.codes_stride,
                     .scales_stride = p.scales_stride};
  if (matrix.type == RETORT_PACKED_NF4) {
    view.nf4_scales = reinterpret_cast<const float*>(base + p.nf4_scales_at);
    view.nf4_code = Nf4Code();
    view.nf4_dynamic = Nf4Dynamic();
    memcpy(&view.nf4_mean, base + p.nf4_mean_at, sizeof(float));
  }
  return view;
}

}  // namespace retort::kernels

extern "C" {

int64_t retort_packed_block_weights(int type) noexcept {
  const auto* t = retort::kernels::FindPackedType(type);
  return t != nullptr ? t->weights : -1;
}
int64_t retort_packed_block_bytes(int type) noexcept {
  const auto* t = retort::kernels::FindPackedType(type);
  return t != nullptr ? t->file_bytes : -1;
}
int64_t retort_packed_bytes(int type, int64_t rows, int64_t cols) noexcept {
  const auto* t = retort::kernels::FindPackedType(type);
  if (t == nullptr || rows < 0 || cols < 0 || cols % t->weights != 0) return -1;
  return retort::kernels::PlanesOf(type, rows, cols).bytes;
}

}  // extern "C"
