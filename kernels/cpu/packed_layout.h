// Sizes and places of the planes of a packed matrix (packed_table.h says what they hold).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/packed_table.h"

namespace retort::kernels {

// Of one type: weights and bytes of a block in the file order; of one group (16 rows) and block,
// bytes of codes and of scales. The float types have neither planes nor groups.
struct PackedType {
  int64_t weights, file_bytes, codes_bytes, scales_bytes;
};
const PackedType* FindPackedType(int type) noexcept;

struct PackedPlanes {
  int64_t groups = 0, blocks = 0;  // blocks of a row
  int64_t codes_stride = 0, scales_stride = 0;
  int64_t scales_at = 0, nf4_scales_at = 0, nf4_mean_at = 0;
  int64_t bytes = 0;
};
// Of a known type and whole blocks.
PackedPlanes PlanesOf(int type, int64_t rows, int64_t cols) noexcept;

PackedView ViewOf(const retort_packed_matrix& matrix) noexcept;

}  // namespace retort::kernels
