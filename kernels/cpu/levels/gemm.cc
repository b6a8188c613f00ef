// Skinny GEMM over a range of outputs: a few rows of x by dot_tile.h, more by stream_tile.h; both
// give the same bits.
// Method: sums gather in a small block first: rows of y often lie a multiple of 4096 bytes apart,
// and single stores to them would fight for the same few cache lines (measured: 1.4 times slower).
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/levels/dot_tile.h"
#include "kernels/cpu/levels/stream_tile.h"

namespace retort::kernels::RETORT_KERNELS_NS {

static constexpr int64_t kOutputBlock = 16;

template <class V>
static void DotOutputs(const GemmArgs<ScalarOf<V>>& a, int64_t m, int64_t rows, int64_t begin,
                       int64_t end) {
  using S = ScalarOf<V>;
  const retort_skinny_gemm_shape& s = a.shape;
  S block[kStreamRows * kOutputBlock];
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

template <class V>
void Gemm<V>::Outputs(const GemmArgs<S>& a, int64_t begin, int64_t end) {
  const retort_skinny_gemm_shape& s = a.shape;
  for (int64_t m = 0; m < s.m; m += kStreamRows) {
    const int64_t rows = s.m - m < kStreamRows ? s.m - m : kStreamRows;
    if constexpr (sizeof(S) == sizeof(float)) {
      if (rows > kFewRows && end - begin >= kStreamW) {
        StreamOutputs<Floats>({.x = a.x + m * s.x_stride,
                               .w = a.w,
                               .bias = a.bias,
                               .y = a.y + m * s.y_stride,
                               .rows = rows,
                               .x_stride = s.x_stride,
                               .w_stride = s.w_stride,
                               .y_stride = s.y_stride,
                               .cols = s.i},
                              begin, end);
        continue;
      }
    }
    DotOutputs<V>(a, m, rows, begin, end);
  }
}

RETORT_KERNELS_EMIT(Gemm);

}  // namespace retort::kernels::RETORT_KERNELS_NS
