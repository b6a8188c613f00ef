// 16 lanes of 32-bit integers, and loads that widen, at the level being compiled.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/levels/simd.h"

namespace retort::kernels::RETORT_KERNELS_NS {

#if RETORT_KERNELS_LEVEL == 2

struct Ints {
  __m512i v;
  static Ints Load(const void* p) { return {_mm512_loadu_si512(p)}; }
  static Ints Set1(int x) { return {_mm512_set1_epi32(x)}; }
  static Ints OfBytes(const void* p) {
    return {_mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)))};
  }
  static Ints OfSignedBytes(const void* p) {
    return {_mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)))};
  }
};
static inline Ints operator+(Ints a, Ints b) { return {_mm512_add_epi32(a.v, b.v)}; }
static inline Ints operator*(Ints a, Ints b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
static inline Ints operator&(Ints a, Ints b) { return {_mm512_and_si512(a.v, b.v)}; }
static inline Ints operator|(Ints a, Ints b) { return {_mm512_or_si512(a.v, b.v)}; }
template <int kBits>
static inline Ints ShiftRight(Ints a) {
  return {_mm512_srli_epi32(a.v, kBits)};
}
static inline F16 ToFloat(Ints a) { return {_mm512_cvtepi32_ps(a.v)}; }
static inline F16 LoadHalves(const void* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)))};
}
static inline F16 LoadBf16(const void* p) {
  const __m256i halves = _mm256_loadu_si256(static_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16))};
}
// table[lane & 15].
static inline F16 Lookup(F16 table, Ints at) { return {_mm512_permutexvar_ps(at.v, table.v)}; }

#elif RETORT_KERNELS_LEVEL == 1

static inline __m128i Load128(const void* p) {
  return _mm_loadu_si128(static_cast<const __m128i*>(p));
}

struct Ints {
  __m256i a, b;
  static Ints Load(const void* p) {
    const auto* const at = static_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)};
  }
  static Ints Set1(int x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
  static Ints OfBytes(const void* p) {
    const __m128i v = Load128(p);
    return {_mm256_cvtepu8_epi32(v), _mm256_cvtepu8_epi32(_mm_srli_si128(v, 8))};
  }
  static Ints OfSignedBytes(const void* p) {
    const __m128i v = Load128(p);
    return {_mm256_cvtepi8_epi32(v), _mm256_cvtepi8_epi32(_mm_srli_si128(v, 8))};
  }
};
static inline Ints operator+(Ints x, Ints y) {
  return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
}
static inline Ints operator*(Ints x, Ints y) {
  return {_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b)};
}
static inline Ints operator&(Ints x, Ints y) {
  return {_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)};
}
static inline Ints operator|(Ints x, Ints y) {
  return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)};
}
template <int kBits>
static inline Ints ShiftRight(Ints x) {
  return {_mm256_srli_epi32(x.a, kBits), _mm256_srli_epi32(x.b, kBits)};
}
static inline F16 ToFloat(Ints x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
static inline F16 LoadHalves(const void* p) {
  const auto* const at = static_cast<const __m128i*>(p);
  return {_mm256_cvtph_ps(Load128(at)), _mm256_cvtph_ps(Load128(at + 1))};
}
static inline F16 LoadBf16(const void* p) {
  const auto* const at = static_cast<const __m128i*>(p);
  const auto widen = [](__m128i halves) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  };
  return {widen(Load128(at)), widen(Load128(at + 1))};
}
static inline __m256 LookupHalf(F16 table, __m256i at) {
  const __m256 low = _mm256_permutevar8x32_ps(table.a, at);
  const __m256 high = _mm256_permutevar8x32_ps(table.b, at);
  return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(at, 28)));
}
// table[lane & 15].
static inline F16 Lookup(F16 table, Ints at) {
  return {LookupHalf(table, at.a), LookupHalf(table, at.b)};
}

#else

struct Ints {
  int32_t v[16];
  template <class T>
  static Ints Of(const void* p) {
    T lanes[16];
    memcpy(lanes, p, sizeof(lanes));
    Ints r;
    for (int i = 0; i < 16; ++i) r.v[i] = lanes[i];
    return r;
  }
  static Ints Load(const void* p) { return Of<int32_t>(p); }
  static Ints OfBytes(const void* p) { return Of<uint8_t>(p); }
  static Ints OfSignedBytes(const void* p) { return Of<int8_t>(p); }
  static Ints Set1(int x) {
    Ints r;
    for (int32_t& lane : r.v) lane = x;
    return r;
  }
};
#define RETORT_INTS_OPERATOR(op)                                 \
  static inline Ints operator op(const Ints& a, const Ints& b) { \
    Ints r;                                                      \
    for (int i = 0; i < 16; ++i) r.v[i] = a.v[i] op b.v[i];      \
    return r;                                                    \
  }
RETORT_INTS_OPERATOR(+)
RETORT_INTS_OPERATOR(*)
RETORT_INTS_OPERATOR(&)
RETORT_INTS_OPERATOR(|)
#undef RETORT_INTS_OPERATOR
template <int kBits>
static inline Ints ShiftRight(const Ints& a) {
  Ints r;
  for (int i = 0; i < 16; ++i) {
    r.v[i] = static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) >> kBits);
  }
  return r;
}
static inline F16 ToFloat(const Ints& a) {
  float lanes[16];
  for (int i = 0; i < 16; ++i) lanes[i] = static_cast<float>(a.v[i]);
  return F16::Load(lanes);
}
static inline float FloatOfBits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}
static inline F16 LoadHalves(const void* p) {
  uint16_t bits[16];
  memcpy(bits, p, sizeof(bits));
  float lanes[16];
  for (int i = 0; i < 16; ++i) {  // the product rebases the exponent, subnormals included
    const uint32_t magnitude = static_cast<uint32_t>(bits[i] & 0x7fff) << 13;
    const float rebased = FloatOfBits(magnitude) * 0x1p112f;
    const float value = magnitude >= 0x0f800000 ? FloatOfBits(0x7f800000 | magnitude) : rebased;
    lanes[i] = bits[i] & 0x8000 ? -value : value;
  }
  return F16::Load(lanes);
}
static inline F16 LoadBf16(const void* p) {
  uint16_t bits[16];
  memcpy(bits, p, sizeof(bits));
  float lanes[16];
  for (int i = 0; i < 16; ++i) lanes[i] = FloatOfBits(static_cast<uint32_t>(bits[i]) << 16);
  return F16::Load(lanes);
}
// table[lane & 15].
static inline F16 Lookup(F16 table, const Ints& at) {
  float values[16], lanes[16];
  table.Store(values);
  for (int i = 0; i < 16; ++i) lanes[i] = values[at.v[i] & 15];
  return F16::Load(lanes);
}

#endif

// At most 16 sums of one row to y, which may hold sums of earlier columns; bias may be NULL.
static inline void PutSums(F16 sum, float* y, int64_t n, bool add, const float* bias) {
  const auto put = [&](auto part) {
    if (add) sum = LoadAt<F16>(y, part) + sum;
    if (bias != nullptr) sum = sum + LoadAt<F16>(bias, part);
    StoreAt<F16>(y, sum, part);
  };
  n >= 16 ? put(Full{}) : put(n);
}

}  // namespace retort::kernels::RETORT_KERNELS_NS
