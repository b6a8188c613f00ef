// 32 columns of x to int8: the step is the largest magnitude / 127, ties go to the even integer.
// Any infinity or NaN makes the scale one, so that it shows in the products.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/levels/packed_ints.h"

namespace retort::kernels::RETORT_KERNELS_NS {

// Offsets that stored codes of a type carry; `split`: sums are kept per 16 columns.
struct Rounding {
  int offset;
  bool split;
};

static inline void FinishBlock(float largest, int32_t low, int32_t high, Rounding how,
                               XBlock* out) {
  const int32_t sum = low + high;
  out->scale = largest * (1.0f / 127.0f);
  out->scaled_sum = out->scale * static_cast<float>(sum);
  out->start[0] = -how.offset * (how.split ? low : sum);
  out->start[1] = -how.offset * high;
}

// Below this, numbers count as 0: their reciprocal would overflow.
static inline float StepsPer(float largest) { return largest > 1e-30f ? 127.0f / largest : 0.0f; }

#if RETORT_KERNELS_LEVEL > 0

static inline void RoundBlock(const float* x, Rounding how, XBlock* out) {
  __m256 v[4];
  for (int i = 0; i < 4; ++i) v[i] = _mm256_loadu_ps(x + 8 * i);
  // As integers, magnitudes compare like numbers, and a NaN is larger than any.
  __m256i size[4];
  for (int i = 0; i < 4; ++i) {
    size[i] = _mm256_and_si256(_mm256_castps_si256(v[i]), _mm256_set1_epi32(0x7fffffff));
  }
  const __m256i m =
      _mm256_max_epi32(_mm256_max_epi32(size[0], size[1]), _mm256_max_epi32(size[2], size[3]));
  __m128i h = _mm_max_epi32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
  h = _mm_max_epi32(h, _mm_shuffle_epi32(h, 0x4e));
  h = _mm_max_epi32(h, _mm_shuffle_epi32(h, 0xb1));
  const float largest = _mm_cvtss_f32(_mm_castsi128_ps(h));
  const __m256 steps = _mm256_set1_ps(StepsPer(largest));
  __m256i q[4];
  for (int i = 0; i < 4; ++i) q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], steps));
  const __m256i packed = _mm256_permutevar8x32_epi32(  // packing works within 128-bit halves
      _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3])),
      _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out->q), packed);
  __m256i sums =
      _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), packed), _mm256_set1_epi16(1));
  sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32(sums, 0x4e));
  sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32(sums, 0xb1));
  FinishBlock(largest, _mm256_cvtsi256_si32(sums), _mm256_extract_epi32(sums, 4), how, out);
}

#else

static inline void RoundBlock(const float* x, Rounding how, XBlock* out) {
  float largest = 0;
  for (int i = 0; i < 32; ++i) {  // a NaN stays
    const float size = fabsf(x[i]);
    if (!(size <= largest) && largest == largest) largest = size;
  }
  const float steps = StepsPer(largest);
  int32_t sums[2] = {};
  for (int i = 0; i < 32; ++i) {
    const float q = rintf(x[i] * steps);
    out->q[i] = q >= -127 && q <= 127 ? static_cast<int8_t>(q) : int8_t{-128};
    sums[i / 16] += out->q[i];
  }
  FinishBlock(largest, sums[0], sums[1], how, out);
}

#endif

}  // namespace retort::kernels::RETORT_KERNELS_NS
