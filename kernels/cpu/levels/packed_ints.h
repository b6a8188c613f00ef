// Integer products of packed codes with x rounded to int8, at the level being compiled:
// AddQuads<Code, first, last>(codes, x, sums) adds, for each row of x and each lane, the products
// of quads first .. last - 1 of one block of 32 columns. The sums are exact, so every level agrees.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/levels/packed_simd.h"

namespace retort::kernels::RETORT_KERNELS_NS {

// 32 columns of one row of x. `start` cancels an offset in stored codes: minus the offset times
// the sum of q, of all (start[0]), or of each 16 columns.
struct XBlock {
  int8_t q[32];
  float scale, scaled_sum;  // scaled_sum = scale * (sum of q)
  int32_t start[2];
};
static_assert(sizeof(XBlock) == 48);

static inline int32_t XQuad(const XBlock& x, int quad) {
  int32_t four;
  memcpy(&four, x.q + 4 * quad, sizeof(four));
  return four;
}

// How the codes of a block lie (packed_table.h), and what is added to them in there.
struct Bytes {
  static constexpr int kOffset = 128;
};
struct Nibbles {};
struct Sixes {};

#if RETORT_KERNELS_LEVEL == 2

static constexpr int kTileX = 8;  // rows of x in one pass over a group
static constexpr int kByteOffset = Bytes::kOffset;

template <int kQuad>
static inline __m512i LoadQuad(Bytes, const uint8_t* codes) {
  return _mm512_loadu_si512(codes + 64 * kQuad);
}
template <int kQuad>
static inline __m512i LoadQuad(Nibbles, const uint8_t* codes) {
  const __m512i both = _mm512_loadu_si512(codes + 64 * (kQuad % 4));
  return _mm512_and_si512(kQuad < 4 ? both : _mm512_srli_epi16(both, 4), _mm512_set1_epi8(15));
}
template <int kQuad>
static inline __m512i LoadQuad(Sixes, const uint8_t* codes) {
  const __m512i high = _mm512_loadu_si512(codes + 256 + 64 * (kQuad / 4));
  constexpr int kAt = kQuad % 4 * 2;  // of the two bits, which belong at 4
  const __m512i placed = kAt <= 4 ? _mm512_slli_epi16(high, kAt <= 4 ? 4 - kAt : 0)
                                  : _mm512_srli_epi16(high, kAt > 4 ? kAt - 4 : 0);
  return _mm512_or_si512(LoadQuad<kQuad>(Nibbles{}, codes),
                         _mm512_and_si512(placed, _mm512_set1_epi8(0x30)));
}

template <class Code, int kFirst, int kLast, int kRows>
static inline void AddQuads(const uint8_t* codes, const XBlock* x, Ints (&sums)[kRows]) {
  const __m512i w = LoadQuad<kFirst>(Code{}, codes);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    sums[r].v = _mm512_dpbusd_epi32(sums[r].v, w, _mm512_set1_epi32(XQuad(x[r], kFirst)));
  }
  if constexpr (kFirst + 1 < kLast) AddQuads<Code, kFirst + 1, kLast>(codes, x, sums);
}

#elif RETORT_KERNELS_LEVEL == 1

static constexpr int kTileX = 4;
static constexpr int kByteOffset = 0;  // taken off below

static inline __m256i Load256(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
static inline __m256i Ones16() { return _mm256_set1_epi16(1); }
// Sixteen registers are few: left alone, the compiler shares broadcasts between the two halves and
// turns chains of sums into trees, and then spills (measured: half the speed).
static inline const XBlock* Opaque(const XBlock* x) {
  asm("" : "+r"(x));
  return x;
}
static inline void Settle(__m256i* sum) { asm("" : "+x"(*sum)); }

template <int kQuad>
static inline __m256i LoadQuad(Nibbles, const uint8_t* codes) {
  const __m256i both = Load256(codes + 64 * (kQuad % 4));
  return _mm256_and_si256(kQuad < 4 ? both : _mm256_srli_epi16(both, 4), _mm256_set1_epi8(15));
}
template <int kQuad>
static inline __m256i LoadQuad(Sixes, const uint8_t* codes) {
  const __m256i high = Load256(codes + 256 + 64 * (kQuad / 4));
  constexpr int kAt = kQuad % 4 * 2;  // of the two bits, which belong at 4
  const __m256i placed = kAt <= 4 ? _mm256_slli_epi16(high, kAt <= 4 ? 4 - kAt : 0)
                                  : _mm256_srli_epi16(high, kAt > 4 ? kAt - 4 : 0);
  return _mm256_or_si256(LoadQuad<kQuad>(Nibbles{}, codes),
                         _mm256_and_si256(placed, _mm256_set1_epi8(0x30)));
}

// Signed codes: |code| * (x with the code's sign); 128 * 127 * 2 still fits 16 bits.
template <int kFirst, int kLast, int kRows>
static inline void AddHalf(Bytes, const uint8_t* codes, const XBlock* x, __m256i (&sums)[kRows]) {
#pragma GCC unroll 8
  for (int quad = kFirst; quad < kLast; ++quad) {
    const __m256i w = _mm256_xor_si256(Load256(codes + 64 * quad), _mm256_set1_epi8(-128));
    const __m256i size = _mm256_abs_epi8(w);
    x = Opaque(x);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const __m256i xr = _mm256_sign_epi8(_mm256_set1_epi32(XQuad(x[r], quad)), w);
      const __m256i pairs = _mm256_maddubs_epi16(size, xr);
      sums[r] = _mm256_add_epi32(sums[r], _mm256_madd_epi16(pairs, Ones16()));
      Settle(&sums[r]);
    }
  }
}
// Small codes: pairs of as many quads as 16 bits hold are added before they widen: 8 of 15 * 254,
// 2 of 63 * 254.
template <class Code, int kFirst, int kLast, int kRows>
static inline void AddPairs(Code code, const uint8_t* codes, const XBlock* x,
                            __m256i (&pairs)[kRows]) {
  const __m256i w = LoadQuad<kFirst>(code, codes);
  x = Opaque(x);
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    const __m256i xr = _mm256_set1_epi32(XQuad(x[r], kFirst));
    pairs[r] = _mm256_add_epi16(pairs[r], _mm256_maddubs_epi16(w, xr));
    Settle(&pairs[r]);
  }
  if constexpr (kFirst + 1 < kLast) AddPairs<Code, kFirst + 1, kLast>(code, codes, x, pairs);
}
template <int kFirst, int kLast, class Code, int kRows>
static inline void AddHalf(Code code, const uint8_t* codes, const XBlock* x,
                           __m256i (&sums)[kRows]) {
  constexpr int kTogether = sizeof(Code) == sizeof(Nibbles) && __is_same(Code, Nibbles) ? 8 : 2;
  constexpr int kEnd = kFirst + kTogether < kLast ? kFirst + kTogether : kLast;
  __m256i pairs[kRows];
  for (__m256i& p : pairs) p = _mm256_setzero_si256();
  AddPairs<Code, kFirst, kEnd>(code, codes, x, pairs);
  for (int r = 0; r < kRows; ++r) {
    sums[r] = _mm256_add_epi32(sums[r], _mm256_madd_epi16(pairs[r], Ones16()));
  }
  if constexpr (kEnd < kLast) AddHalf<kEnd, kLast>(code, codes, x, sums);
}

template <class Code, int kFirst, int kLast, int kRows>
static inline void AddQuads(const uint8_t* codes, const XBlock* x, Ints (&sums)[kRows]) {
  __m256i half[kRows];
  for (int r = 0; r < kRows; ++r) half[r] = sums[r].a;
  AddHalf<kFirst, kLast>(Code{}, codes, x, half);
  for (int r = 0; r < kRows; ++r) {
    sums[r].a = half[r];
    half[r] = sums[r].b;
  }
  AddHalf<kFirst, kLast>(Code{}, codes + 32, x, half);
  for (int r = 0; r < kRows; ++r) sums[r].b = half[r];
}

#else

static constexpr int kTileX = 4;
static constexpr int kByteOffset = Bytes::kOffset;

static inline int CodeAt(Bytes, const uint8_t* codes, int quad, int at) {
  return codes[64 * quad + at];
}
static inline int CodeAt(Nibbles, const uint8_t* codes, int quad, int at) {
  return codes[64 * (quad % 4) + at] >> (quad / 4 * 4) & 15;
}
static inline int CodeAt(Sixes, const uint8_t* codes, int quad, int at) {
  const int high = codes[256 + 64 * (quad / 4) + at] >> (quad % 4 * 2) & 3;
  return CodeAt(Nibbles{}, codes, quad, at) | high << 4;
}

template <class Code, int kFirst, int kLast, int kRows>
static inline void AddQuads(const uint8_t* codes, const XBlock* x, Ints (&sums)[kRows]) {
  for (int quad = kFirst; quad < kLast; ++quad) {
    int w[64];
    for (int i = 0; i < 64; ++i) w[i] = CodeAt(Code{}, codes, quad, i);
    for (int r = 0; r < kRows; ++r) {
      const int8_t* const q = x[r].q + 4 * quad;
      for (int lane = 0; lane < 16; ++lane) {
        sums[r].v[lane] += w[4 * lane] * q[0] + w[4 * lane + 1] * q[1] + w[4 * lane + 2] * q[2] +
                           w[4 * lane + 3] * q[3];
      }
    }
  }
}

#endif

}  // namespace retort::kernels::RETORT_KERNELS_NS
