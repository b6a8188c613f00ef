// Rotary position embedding.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/levels/levels.h"

namespace retort::kernels::RETORT_KERNELS_NS {

// sign -1 rotates back.
template <class V>
static void RotateHalves(const ScalarOf<V>* x, const ScalarOf<V>* cos_row,
                         const ScalarOf<V>* sin_row, ScalarOf<V> sign, int64_t half,
                         ScalarOf<V>* y) {
  const V s = V::Set1(sign);
  ForLanes(half, [&](int64_t i, auto n) {
    const V a = LoadAt<V>(x + i, n), b = LoadAt<V>(x + half + i, n);
    const V c = LoadAt<V>(cos_row + i, n), d = LoadAt<V>(sin_row + i, n) * s;
    StoreAt(y + i, a * c - b * d, n);
    StoreAt(y + half + i, b * c + a * d, n);
  });
}

template <class S>
static void RotatePairs(const S* x, const S* cos_row, const S* sin_row, S sign, int64_t half,
                        S* y) {
  for (int64_t i = 0; i < half; ++i) {
    const S a = x[2 * i], b = x[2 * i + 1], c = cos_row[i], d = sin_row[i] * sign;
    y[2 * i] = a * c - b * d;
    y[2 * i + 1] = b * c + a * d;
  }
}

template <class V>
void Rope<V>::Apply(const RopeArgs<S>& a, int64_t begin, int64_t end) {
  const retort_rope_shape& shape = a.shape;
  const int64_t half = shape.rotary_dim / 2, rest = shape.head_dim - shape.rotary_dim;
  const S sign = shape.inverse != 0 ? S(-1) : S(1);
  for (int64_t r = begin; r < end; ++r) {
    const int64_t position = a.positions != nullptr ? a.positions[r] : r;
    const S* cos_row = a.cos_table + position * half;
    const S* sin_row = a.sin_table + position * half;
    for (int64_t h = 0; h < shape.n_heads; ++h) {
      const S* x = a.x + r * a.x_stride + h * shape.head_dim;
      S* y = a.y + r * a.y_stride + h * shape.head_dim;
      if (shape.layout == RETORT_KERNELS_ROPE_INTERLEAVED) {
        RotatePairs(x, cos_row, sin_row, sign, half, y);
      } else {
        RotateHalves<V>(x, cos_row, sin_row, sign, half, y);
      }
      if (rest > 0 && x != y) {
        memcpy(y + 2 * half, x + 2 * half, static_cast<size_t>(rest) * sizeof(S));
      }
    }
  }
}

RETORT_KERNELS_EMIT(Rope);

}  // namespace retort::kernels::RETORT_KERNELS_NS
