// Skinny GEMM over a range of outputs.
// Method: a few rows of w stay in registers against a few rows of x (dot_tile.h); all rows of x
// meet them before the next ones, so w is read once. x blocks of 64 rows keep x in L2 when m is
// large. Sums gather in a small block first: rows of y often lie a multiple of 4096 bytes apart,
// and single stores to them would fight for the same few cache lines (measured: 1.4 times slower).
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/levels/dot_tile.h"

namespace retort::kernels::RETORT_KERNELS_NS {

static constexpr int64_t kRowBlock = 64, kOutputBlock = 16;

template <class V>
void Gemm<V>::Outputs(const GemmArgs<S>& a, int64_t begin, int64_t end) {
  const retort_skinny_gemm_shape& s = a.shape;
  S block[kRowBlock * kOutputBlock];
  for (int64_t m = 0; m < s.m; m += kRowBlock) {
    const int64_t rows = s.m - m < kRowBlock ? s.m - m : kRowBlock;
    for (int64_t o = begin; o < end; o += kOutputBlock) {
      const int64_t outputs = end - o < kOutputBlock ? end - o : kOutputBlock;
      const DotArgs<S> dots = {.x = a.x + m * s.x_stride,
                               .w = a.w + o * s.w_stride,
                               .bias = a.bias != nullptr ? a.bias + o : nullptr,
                               .y = block,
                               .x_stride = s.x_stride,
                               .w_stride = s.w_stride,
                               .y_stride = kOutputBlock,
                               .cols = s.i};
      Dots<V>(dots, rows, outputs);
      for (int64_t r = 0; r < rows; ++r) {
        memcpy(a.y + (m + r) * s.y_stride + o, block + r * kOutputBlock,
               static_cast<size_t>(outputs) * sizeof(S));
      }
    }
  }
}

RETORT_KERNELS_EMIT(Gemm);

}  // namespace retort::kernels::RETORT_KERNELS_NS
