// Vectors of 16 virtual lanes: F16 (f32) at the level being compiled, D16 (f64, portable). Every
// operation means the same at each level; only Fma differs (fused from AVX2 on, two roundings at
// the portable level). Sum is one fixed tree. The compiler contracts nothing by itself
// (-ffp-contract=off), so AVX2 and AVX-512 give equal bits.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#if RETORT_KERNELS_LEVEL == 2
#include "kernels/cpu/levels/simd_avx512.h"
#elif RETORT_KERNELS_LEVEL == 1
#include "kernels/cpu/levels/simd_avx2.h"
#else
#include "kernels/cpu/levels/simd_portable.h"
#endif

namespace retort::kernels::RETORT_KERNELS_NS {

// The tree's last two steps on four lanes.
static inline float SumLanes4(F4 v) { return (v[0] + v[2]) + (v[1] + v[3]); }
static inline float Sum(F16 v) { return SumLanes4(Fold4(v)); }
// Sums of four vectors at once, each by the same tree.
static inline F4 Sum4(F16 a, F16 b, F16 c, F16 d) {
  const F4 fa = Fold4(a), fb = Fold4(b), fc = Fold4(c), fd = Fold4(d);
  const F4 ab02 = __builtin_shuffle(fa, fb, I4{0, 2, 4, 6});  // a0 a2 b0 b2
  const F4 ab13 = __builtin_shuffle(fa, fb, I4{1, 3, 5, 7});
  const F4 cd02 = __builtin_shuffle(fc, fd, I4{0, 2, 4, 6});
  const F4 cd13 = __builtin_shuffle(fc, fd, I4{1, 3, 5, 7});
  const F4 s0 =
      __builtin_shuffle(ab02, cd02, I4{0, 2, 4, 6}) + __builtin_shuffle(ab02, cd02, I4{1, 3, 5, 7});
  const F4 s1 =
      __builtin_shuffle(ab13, cd13, I4{0, 2, 4, 6}) + __builtin_shuffle(ab13, cd13, I4{1, 3, 5, 7});
  return s0 + s1;
}

// out[j] = Sum of the vector at v + 16 j, for j < n.
static inline void SumEach(const float* v, int64_t n, float* out) {
  int64_t j = 0;
#if RETORT_KERNELS_LEVEL == 2
  for (; j + 16 <= n; j += 16) Sum16(v + 16 * j, out + j);
#endif
  const auto at = [&](int64_t i) { return F16::Load(v + 16 * i); };
  for (; j + 4 <= n; j += 4) {
    const F4 sums = Sum4(at(j), at(j + 1), at(j + 2), at(j + 3));
    memcpy(out + j, &sums, sizeof(sums));
  }
  for (; j < n; ++j) out[j] = Sum(at(j));
}

// e^x to about 2 ulp; 0 below -87.33 (no denormals), inf above 88.73, NaN stays.
// Method: x = n ln 2 + r, ln 2 in two parts (the high one has trailing zeros, so n * high is exact
// with or without fma), a degree-6 polynomial on |r| <= ln 2 / 2, 2^n as two factors so that
// n = 128 works. The polynomial's coefficients are those of Cephes' expf.
static inline F16 Exp(F16 x) {
  const F16 lo = F16::Set1(-87.33654f), hi = F16::Set1(88.9f);
  const F16 magic = F16::Set1(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const F16 c = Min(hi, Max(lo, x));
  const F16 n = Fma(c, F16::Set1(1.44269504f), magic) - magic;
  F16 r = Fma(n, F16::Set1(-0.693359375f), c);
  r = Fma(n, F16::Set1(2.12194440e-4f), r);
  F16 p = F16::Set1(1.9875691500e-4f);
  p = Fma(p, r, F16::Set1(1.3981999507e-3f));
  p = Fma(p, r, F16::Set1(8.3334519073e-3f));
  p = Fma(p, r, F16::Set1(4.1665795894e-2f));
  p = Fma(p, r, F16::Set1(1.6666665459e-1f));
  p = Fma(p, r, F16::Set1(5.0000001201e-1f));
  p = Fma(p, r * r, r) + F16::Set1(1.0f);
  const F16 half = Fma(n, F16::Set1(0.5f), magic);
  const F16 rest = (n - (half - magic)) + magic;
  return BlendLess(x, lo, F16::Zero(), p * Pow2(half) * Pow2(rest));
}

#if RETORT_KERNELS_LEVEL == 0
static inline F16 Sqrt(F16 x) {
  float lanes[16];
  x.Store(lanes);
  for (float& v : lanes) v = sqrtf(v);
  return F16::Load(lanes);
}
#endif
static inline F16 Erfc(F16 x) {
  float lanes[16];
  x.Store(lanes);
  for (float& v : lanes) v = erfcf(v);
  return F16::Load(lanes);
}
// Below 0.625 an odd polynomial (coefficients: Cephes' tanhf), above 1 - 2 / (e^2x + 1).
static inline F16 Tanh(F16 x) {
  const F16 z = x * x, one = F16::Set1(1.0f), two = F16::Set1(2.0f);
  F16 p = F16::Set1(-5.70498872745e-3f);
  p = Fma(p, z, F16::Set1(2.06390887954e-2f));
  p = Fma(p, z, F16::Set1(-5.37397155531e-2f));
  p = Fma(p, z, F16::Set1(1.33314422036e-1f));
  p = Fma(p, z, F16::Set1(-3.33332819422e-1f));
  const F16 small = Fma(p * z, x, x);
  const F16 size = Max(F16::Zero() - x, x);
  const F16 large = one - two / (Exp(two * size) + one);
  const F16 sign = BlendLess(x, F16::Zero(), F16::Zero() - one, one);
  return BlendLess(size, F16::Set1(0.625f), small, sign * large);
}

// A loop over n elements in steps of 16: body(i, Full{}) for whole vectors, body(i, rest) for the
// tail. LoadAt/StoreAt take either.
struct Full {};
template <class V>
static inline V LoadAt(const typename V::Scalar* p, Full) {
  return V::Load(p);
}
template <class V>
static inline V LoadAt(const typename V::Scalar* p, int64_t n) {
  return V::LoadPart(p, n);
}
template <class V>
static inline void StoreAt(typename V::Scalar* p, V v, Full) {
  v.Store(p);
}
template <class V>
static inline void StoreAt(typename V::Scalar* p, V v, int64_t n) {
  v.StorePart(p, n);
}
template <class Body, class Tail>
static inline void ForLanes(int64_t n, Body body, Tail tail) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) body(i, Full{});
  if (i < n) tail(i, n - i);
}
template <class Body>
static inline void ForLanes(int64_t n, Body body) {
  ForLanes(n, body, body);
}

#if RETORT_KERNELS_LEVEL == 0
// f64 twin, for gradient checks: plain loops, libm's functions.
struct D16 {
  using Scalar = double;
  double v[16];
  static D16 Load(const double* p) { return LoadPart(p, 16); }
  static D16 LoadPart(const double* p, int64_t n) {
    D16 r = Zero();
    memcpy(r.v, p, static_cast<size_t>(n) * sizeof(double));
    return r;
  }
  void Store(double* p) const { StorePart(p, 16); }
  void StorePart(double* p, int64_t n) const {
    memcpy(p, v, static_cast<size_t>(n) * sizeof(double));
  }
  static D16 Set1(double x) {
    D16 r;
    for (double& e : r.v) e = x;
    return r;
  }
  static D16 Zero() { return Set1(0); }
};
template <class F>
static inline D16 Map(const D16& a, const D16& b, F f) {
  D16 r;
  for (int i = 0; i < 16; ++i) r.v[i] = f(a.v[i], b.v[i]);
  return r;
}
static inline D16 operator+(const D16& a, const D16& b) {
  return Map(a, b, [](double x, double y) { return x + y; });
}
static inline D16 operator-(const D16& a, const D16& b) {
  return Map(a, b, [](double x, double y) { return x - y; });
}
static inline D16 operator*(const D16& a, const D16& b) {
  return Map(a, b, [](double x, double y) { return x * y; });
}
static inline D16 operator/(const D16& a, const D16& b) {
  return Map(a, b, [](double x, double y) { return x / y; });
}
static inline D16 Max(const D16& a, const D16& b) {
  return Map(a, b, [](double x, double y) { return x > y ? x : y; });
}
static inline D16 Fma(const D16& a, const D16& b, const D16& c) { return a * b + c; }
static inline D16 BlendLess(const D16& a, const D16& b, const D16& yes, const D16& no) {
  D16 r;
  for (int i = 0; i < 16; ++i) r.v[i] = a.v[i] < b.v[i] ? yes.v[i] : no.v[i];
  return r;
}
static inline bool AnyEqual(const D16& a, const D16& b) {
  bool any = false;
  for (int i = 0; i < 16; ++i) any |= a.v[i] == b.v[i];
  return any;
}
static inline double Sum(const D16& a) {
  double s[8];
  for (int i = 0; i < 8; ++i) s[i] = a.v[i] + a.v[i + 8];
  for (int i = 0; i < 4; ++i) s[i] += s[i + 4];
  return (s[0] + s[2]) + (s[1] + s[3]);
}
static inline double MaxAll(const D16& a) {
  double m = a.v[0];
  for (double x : a.v) m = x > m ? x : m;
  return m;
}
static inline D16 Exp(const D16& a) {
  return Map(a, a, [](double x, double) { return exp(x); });
}
static inline D16 Sqrt(const D16& a) {
  return Map(a, a, [](double x, double) { return sqrt(x); });
}
static inline D16 Tanh(const D16& a) {
  return Map(a, a, [](double x, double) { return tanh(x); });
}
static inline D16 Erfc(const D16& a) {
  return Map(a, a, [](double x, double) { return erfc(x); });
}
#endif

}  // namespace retort::kernels::RETORT_KERNELS_NS
