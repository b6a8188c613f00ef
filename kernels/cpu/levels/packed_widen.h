// Panels of a packed matrix as f32, for the blocked products of packed_panel.cc.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/levels/packed_simd.h"
#include "kernels/cpu/packed_table.h"

namespace retort::kernels::RETORT_KERNELS_NS {

// Columns [begin, end) of 16 rows from `row` (a multiple of 16), column by column:
// out[(c - begin) * stride + lane]. Lanes past the last row hold finite numbers.
// Of block types begin and end lie on whole blocks.
void WidenLanes(const PackedView& w, int64_t row, int64_t begin, int64_t end, float* out,
                int64_t stride);

// Columns [begin, end) of one row of f32, f16 or bf16.
void WidenFloats(const PackedView& w, int64_t row, int64_t begin, int64_t end, float* out);

// out[c * out_stride + r] = in[r * in_stride + c], 16 x 16.
void Transpose16(const float* in, int64_t in_stride, float* out, int64_t out_stride);

}  // namespace retort::kernels::RETORT_KERNELS_NS
