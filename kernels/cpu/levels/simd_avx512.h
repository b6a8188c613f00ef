// F16 as one 512-bit register.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace retort::kernels::RETORT_KERNELS_NS {

typedef float F4 __attribute__((vector_size(16)));
typedef int32_t I4 __attribute__((vector_size(16)));

struct F16 {
  using Scalar = float;
  __m512 v;
  static __mmask16 Mask(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }
  static F16 Load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static F16 LoadPart(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(Mask(n), p)}; }
  void Store(float* p) const { _mm512_storeu_ps(p, v); }
  void StorePart(float* p, int64_t n) const { _mm512_mask_storeu_ps(p, Mask(n), v); }
  static F16 Set1(float x) { return {_mm512_set1_ps(x)}; }
  static F16 Zero() { return {_mm512_setzero_ps()}; }
};
static inline F16 operator+(F16 a, F16 b) { return {_mm512_add_ps(a.v, b.v)}; }
static inline F16 operator-(F16 a, F16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
static inline F16 operator*(F16 a, F16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
static inline F16 operator/(F16 a, F16 b) { return {_mm512_div_ps(a.v, b.v)}; }
// a > b ? a : b and a < b ? a : b: a NaN on either side gives b.
static inline F16 Max(F16 a, F16 b) { return {_mm512_max_ps(a.v, b.v)}; }
static inline F16 Min(F16 a, F16 b) { return {_mm512_min_ps(a.v, b.v)}; }
static inline F16 Sqrt(F16 a) { return {_mm512_sqrt_ps(a.v)}; }
static inline F16 Fma(F16 a, F16 b, F16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
static inline F16 BlendLess(F16 a, F16 b, F16 yes, F16 no) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), no.v, yes.v)};
}
static inline bool AnyEqual(F16 a, F16 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ) != 0; }
// 2^k where t = k + 1.5 * 2^23, -126 <= k <= 127.
static inline F16 Pow2(F16 t) {
  const __m512i k = _mm512_slli_epi32(_mm512_castps_si512(t.v), 23);
  return {_mm512_castsi512_ps(_mm512_add_epi32(k, _mm512_set1_epi32(0x3f800000)))};
}
// Lanes i + (i+8), then i + (i+4): the first two steps of the sum tree.
static inline F4 Fold4(F16 a) {
  const __m256 s = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  return (F4)_mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
}
// Quarters (two bits each, as the intrinsics count them) of a and b, and their sum.
template <int kLow, int kHigh>
static inline __m512 FoldQuarters(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, kLow), _mm512_shuffle_f32x4(a, b, kHigh));
}
template <int kLow, int kHigh>
static inline __m512 FoldInQuarters(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_ps(a, b, kLow), _mm512_shuffle_ps(a, b, kHigh));
}
// out[j] = Sum of the vector at v + 16 j, for j < 16: all 16 go down the tree together.
static inline void Sum16(const float* v, float* out) {
  __m512 four[4];  // vectors j, j + 4, j + 8, j + 12 folded to four lanes each
  for (int j = 0; j < 4; ++j) {
    const auto at = [&](int i) { return _mm512_loadu_ps(v + 16 * (j + i)); };
    four[j] = FoldQuarters<0x88, 0xdd>(FoldQuarters<0x44, 0xee>(at(0), at(4)),
                                       FoldQuarters<0x44, 0xee>(at(8), at(12)));
  }
  const __m512 low = FoldInQuarters<0x44, 0xee>(four[0], four[1]);
  const __m512 high = FoldInQuarters<0x44, 0xee>(four[2], four[3]);
  _mm512_storeu_ps(out, FoldInQuarters<0x88, 0xdd>(low, high));
}
static inline float MaxAll(F16 a) { return _mm512_reduce_max_ps(a.v); }
static inline void Prefetch(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
}
static inline void PrefetchL2(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1);
}

}  // namespace retort::kernels::RETORT_KERNELS_NS
