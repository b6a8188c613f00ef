// Skinny GEMM over a range of outputs.
// Method: a few rows of w stay in registers against a few rows of x (dot_tile.h); all rows of x
// meet them before the next ones, so w is read once. x blocks of 64 rows keep x in L2 when m is
// large. Prefetch runs one tile of rows ahead: rows are shorter than what a hardware prefetcher
// needs to settle.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/levels/dot_tile.h"

namespace retort::kernels::RETORT_KERNELS_NS {

static constexpr int64_t kRowBlock = 64;

template <class V>
void Gemm<V>::Outputs(const GemmArgs<S>& a, int64_t begin, int64_t end) {
  const retort_skinny_gemm_shape& s = a.shape;
  for (int64_t m = 0; m < s.m; m += kRowBlock) {
    const int64_t rows = s.m - m < kRowBlock ? s.m - m : kRowBlock;
    const DotArgs<S> dots = {.x = a.x + m * s.x_stride,
                             .w = a.w + begin * s.w_stride,
                             .bias = a.bias != nullptr ? a.bias + begin : nullptr,
                             .y = a.y + m * s.y_stride + begin,
                             .x_stride = s.x_stride,
                             .w_stride = s.w_stride,
                             .y_stride = s.y_stride,
                             .cols = s.i,
                             .ahead = (rows == 1 ? kStreams : kTileW) * s.w_stride};
    Dots<V>(dots, rows, end - begin);
  }
}

RETORT_KERNELS_EMIT(Gemm);

}  // namespace retort::kernels::RETORT_KERNELS_NS
