// 16-bit floats and f32, in plain C: for code outside cpu/levels. Internal linkage.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdint.h>
#include <string.h>

namespace retort::kernels {

static inline float FloatOfBits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}
static inline uint32_t BitsOfFloat(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}
static inline uint16_t LoadU16(const void* p) {
  uint16_t bits;
  memcpy(&bits, p, sizeof(bits));
  return bits;
}

static inline float Bf16ToFloat(uint16_t bits) { return FloatOfBits(uint32_t{bits} << 16); }
// To nearest even; NaN stays NaN.
static inline uint16_t FloatToBf16(float value) {
  const uint32_t bits = BitsOfFloat(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Exponents are rebased by a multiplication, which also normalises subnormal numbers.
static inline float HalfToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(half & 0x7fff) << 13;
  if ((half & 0x7c00) == 0x7c00) return FloatOfBits(sign | 0x7f800000 | magnitude);
  return FloatOfBits(sign | BitsOfFloat(FloatOfBits(magnitude) * 0x1p112f));
}
// To nearest even; from 65520 on infinity; NaN stays NaN.
static inline uint16_t FloatToHalf(float value) {
  const uint32_t bits = BitsOfFloat(value), magnitude = bits & 0x7fffffff;
  uint32_t half = 0;
  if (magnitude > 0x7f800000) {
    half = 0x7e00;
  } else if (magnitude >= 0x477ff000) {
    half = 0x7c00;
  } else if (magnitude < 0x38800000) {  // subnormal: the addition rounds at the right bit
    half = BitsOfFloat(FloatOfBits(magnitude) + 0.5f) - 0x3f000000;
  } else {
    half = (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
  }
  return static_cast<uint16_t>(half | (bits >> 16 & 0x8000));
}

}  // namespace retort::kernels
