// F16 as four 128-bit vectors of the compiler's own vector type: any processor.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdint.h>
#include <string.h>

namespace retort::kernels::RETORT_KERNELS_NS {

typedef float F4 __attribute__((vector_size(16)));
typedef int32_t I4 __attribute__((vector_size(16)));
typedef uint32_t U4 __attribute__((vector_size(16)));

static inline F4 LoadF4(const float* p) {
  F4 r;
  memcpy(&r, p, sizeof(r));
  return r;
}
static inline F4 SplatF4(float x) { return F4{x, x, x, x}; }

struct F16 {
  using Scalar = float;
  F4 q0, q1, q2, q3;
  static F16 Load(const float* p) {
    return {LoadF4(p), LoadF4(p + 4), LoadF4(p + 8), LoadF4(p + 12)};
  }
  static F16 LoadPart(const float* p, int64_t n) {
    float lanes[16] = {};
    memcpy(lanes, p, static_cast<size_t>(n) * sizeof(float));
    return Load(lanes);
  }
  void Store(float* p) const {
    memcpy(p, &q0, sizeof(F4));
    memcpy(p + 4, &q1, sizeof(F4));
    memcpy(p + 8, &q2, sizeof(F4));
    memcpy(p + 12, &q3, sizeof(F4));
  }
  void StorePart(float* p, int64_t n) const {
    float lanes[16];
    Store(lanes);
    memcpy(p, lanes, static_cast<size_t>(n) * sizeof(float));
  }
  static F16 Set1(float x) { return {SplatF4(x), SplatF4(x), SplatF4(x), SplatF4(x)}; }
  static F16 Zero() { return Set1(0); }
};
template <class F>
static inline F16 Each(F16 a, F16 b, F f) {
  return {f(a.q0, b.q0), f(a.q1, b.q1), f(a.q2, b.q2), f(a.q3, b.q3)};
}
static inline F16 operator+(F16 a, F16 b) {
  return Each(a, b, [](F4 x, F4 y) { return x + y; });
}
static inline F16 operator-(F16 a, F16 b) {
  return Each(a, b, [](F4 x, F4 y) { return x - y; });
}
static inline F16 operator*(F16 a, F16 b) {
  return Each(a, b, [](F4 x, F4 y) { return x * y; });
}
static inline F16 operator/(F16 a, F16 b) {
  return Each(a, b, [](F4 x, F4 y) { return x / y; });
}
// a > b ? a : b and a < b ? a : b: a NaN on either side gives b.
static inline F16 Max(F16 a, F16 b) {
  return Each(a, b, [](F4 x, F4 y) { return x > y ? x : y; });
}
static inline F16 Min(F16 a, F16 b) {
  return Each(a, b, [](F4 x, F4 y) { return x < y ? x : y; });
}
static inline F16 Fma(F16 a, F16 b, F16 c) { return a * b + c; }
static inline F16 BlendLess(F16 a, F16 b, F16 yes, F16 no) {
  return {a.q0 < b.q0 ? yes.q0 : no.q0, a.q1 < b.q1 ? yes.q1 : no.q1, a.q2 < b.q2 ? yes.q2 : no.q2,
          a.q3 < b.q3 ? yes.q3 : no.q3};
}
static inline bool AnyEqual(F16 a, F16 b) {
  const I4 eq = (a.q0 == b.q0) | (a.q1 == b.q1) | (a.q2 == b.q2) | (a.q3 == b.q3);
  return (eq[0] | eq[1] | eq[2] | eq[3]) != 0;
}
static inline F4 Pow2F4(F4 t) {
  U4 k;
  memcpy(&k, &t, sizeof(k));
  k = (k << 23) + 0x3f800000u;
  memcpy(&t, &k, sizeof(k));
  return t;
}
// 2^k where t = k + 1.5 * 2^23, -126 <= k <= 127.
static inline F16 Pow2(F16 t) { return {Pow2F4(t.q0), Pow2F4(t.q1), Pow2F4(t.q2), Pow2F4(t.q3)}; }
// Lanes i + (i+8), then i + (i+4): the first two steps of the sum tree.
static inline F4 Fold4(F16 a) { return (a.q0 + a.q2) + (a.q1 + a.q3); }
static inline float MaxAll(F16 a) {
  float lanes[16];
  a.Store(lanes);
  float m = lanes[0];
  for (float x : lanes) m = x > m ? x : m;
  return m;
}
static inline void Prefetch(const void* p) { __builtin_prefetch(p); }
static inline void PrefetchL2(const void* p) { __builtin_prefetch(p, 0, 2); }

}  // namespace retort::kernels::RETORT_KERNELS_NS
