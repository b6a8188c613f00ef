// F16 as two 256-bit registers.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace retort::kernels::RETORT_KERNELS_NS {

typedef float F4 __attribute__((vector_size(16)));
typedef int32_t I4 __attribute__((vector_size(16)));

struct F16 {
  using Scalar = float;
  __m256 a, b;
  // All ones in the first n of 8 lanes (n may lie outside 0..8).
  static __m256i Mask(int64_t n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane);
  }
  static F16 Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static F16 LoadPart(const float* p, int64_t n) {
    return {_mm256_maskload_ps(p, Mask(n)), _mm256_maskload_ps(p + 8, Mask(n - 8))};
  }
  void Store(float* p) const {
    _mm256_storeu_ps(p, a);
    _mm256_storeu_ps(p + 8, b);
  }
  void StorePart(float* p, int64_t n) const {
    _mm256_maskstore_ps(p, Mask(n), a);
    _mm256_maskstore_ps(p + 8, Mask(n - 8), b);
  }
  static F16 Set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static F16 Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
};
static inline F16 operator+(F16 x, F16 y) {
  return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}
static inline F16 operator-(F16 x, F16 y) {
  return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}
static inline F16 operator*(F16 x, F16 y) {
  return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}
static inline F16 operator/(F16 x, F16 y) {
  return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}
// x > y ? x : y and x < y ? x : y: a NaN on either side gives y.
static inline F16 Max(F16 x, F16 y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
static inline F16 Min(F16 x, F16 y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
static inline F16 Sqrt(F16 x) { return {_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)}; }
static inline F16 Fma(F16 x, F16 y, F16 z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
static inline F16 BlendLess(F16 x, F16 y, F16 yes, F16 no) {
  return {_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ)),
          _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ))};
}
static inline bool AnyEqual(F16 x, F16 y) {
  const __m256 eq =
      _mm256_or_ps(_mm256_cmp_ps(x.a, y.a, _CMP_EQ_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_EQ_OQ));
  return _mm256_movemask_ps(eq) != 0;
}
static inline __m256 Pow2Half(__m256 t) {
  const __m256i k = _mm256_slli_epi32(_mm256_castps_si256(t), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(k, _mm256_set1_epi32(0x3f800000)));
}
// 2^k where t = k + 1.5 * 2^23, -126 <= k <= 127.
static inline F16 Pow2(F16 t) { return {Pow2Half(t.a), Pow2Half(t.b)}; }
// Lanes i + (i+8), then i + (i+4): the first two steps of the sum tree.
static inline F4 Fold4(F16 x) {
  const __m256 s = _mm256_add_ps(x.a, x.b);
  return (F4)_mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
}
static inline float MaxAll(F16 x) {
  const __m256 m = _mm256_max_ps(x.a, x.b);
  __m128 h = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
  h = _mm_max_ps(h, _mm_movehl_ps(h, h));
  h = _mm_max_ss(h, _mm_shuffle_ps(h, h, 1));
  return _mm_cvtss_f32(h);
}
static inline void Prefetch(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
}
static inline void PrefetchL2(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1);
}

}  // namespace retort::kernels::RETORT_KERNELS_NS
