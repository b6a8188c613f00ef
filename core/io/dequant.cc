// SPDX-License-Identifier: Apache-2.0
#include "core/io/dequant.h"

#include <array>
#include <cassert>
#include <cstring>
#include <string>

namespace retort::io {
namespace {

constexpr std::array<GgmlTypeInfo, 8> kTypes = {{
    {GgmlType::kF32, "F32", 1, 4},
    {GgmlType::kF16, "F16", 1, 2},
    {GgmlType::kBF16, "BF16", 1, 2},
    {GgmlType::kQ8_0, "Q8_0", 32, 34},
    {GgmlType::kQ4_0, "Q4_0", 32, 18},
    {GgmlType::kQ4_1, "Q4_1", 32, 20},
    {GgmlType::kQ4_K, "Q4_K", 256, 144},
    {GgmlType::kQ6_K, "Q6_K", 256, 210},
}};

// Names by number; "" are numbers that were retired or never used.
constexpr std::array<std::string_view, 40> kAllNames = {
    "F32",   "F16",        "Q4_0",       "Q4_1",       "",         "",         "Q5_0",
    "Q5_1",  "Q8_0",       "Q8_1",       "Q2_K",       "Q3_K",     "Q4_K",     "Q5_K",
    "Q6_K",  "Q8_K",       "IQ2_XXS",    "IQ2_XS",     "IQ3_XXS",  "IQ1_S",    "IQ4_NL",
    "IQ3_S", "IQ2_S",      "IQ4_XS",     "I8",         "I16",      "I32",      "I64",
    "F64",   "IQ1_M",      "BF16",       "Q4_0_4_4",   "Q4_0_4_8", "Q4_0_8_8", "TQ1_0",
    "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4"};

float Half(const uint8_t* p) { return F16ToF32(static_cast<uint16_t>(p[0] | p[1] << 8)); }

void Q8_0(const uint8_t* b, float* out) {
  const float d = Half(b);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(static_cast<int8_t>(b[2 + i]));
}

void Q4_0(const uint8_t* b, float* out) {
  const float d = Half(b);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>((b[2 + i] & 15) - 8);
    out[i + 16] = d * static_cast<float>((b[2 + i] >> 4) - 8);
  }
}

void Q4_1(const uint8_t* b, float* out) {
  const float d = Half(b), m = Half(b + 2);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(b[4 + i] & 15) + m;
    out[i + 16] = d * static_cast<float>(b[4 + i] >> 4) + m;
  }
}

void Q4_K(const uint8_t* b, float* out) {
  const float d = Half(b), d_min = Half(b + 2);
  const uint8_t *s = b + 4, *q = b + 16;
  for (int block = 0; block < 8; ++block) {
    const int scale = block < 4 ? s[block] & 63 : (s[block + 4] & 15) | s[block - 4] >> 6 << 4;
    const int minimum = block < 4 ? s[block + 4] & 63 : s[block + 4] >> 4 | s[block] >> 6 << 4;
    const float ds = d * static_cast<float>(scale), dm = d_min * static_cast<float>(minimum);
    const uint8_t* bytes = q + 32 * (block / 2);
    const int shift = block % 2 * 4;
    for (int i = 0; i < 32; ++i) {
      out[32 * block + i] = ds * static_cast<float>(bytes[i] >> shift & 15) - dm;
    }
  }
}

void Q6_K(const uint8_t* b, float* out) {
  const uint8_t *ql = b, *qh = b + 128, *sc = b + 192;
  const float d = Half(b + 208);
  for (int half = 0; half < 2; ++half) {
    for (int quarter = 0; quarter < 4; ++quarter) {
      for (int i = 0; i < 32; ++i) {
        const int lo = ql[64 * half + 32 * (quarter & 1) + i] >> (quarter / 2 * 4) & 15;
        const int hi = qh[32 * half + i] >> (2 * quarter) & 3;
        const auto scale = static_cast<int8_t>(sc[8 * half + 2 * quarter + i / 16]);
        out[128 * half + 32 * quarter + i] =
            d * static_cast<float>(scale) * static_cast<float>((lo | hi << 4) - 32);
      }
    }
  }
}

template <int kWeights, int kBytes>
void Blocks(void (*block)(const uint8_t*, float*), const char* src, int64_t n, float* out) {
  assert(n % kWeights == 0);
  const auto* bytes = reinterpret_cast<const uint8_t*>(src);
  for (int64_t i = 0; i < n / kWeights; ++i) block(bytes + i * kBytes, out + i * kWeights);
}

}  // namespace

const GgmlTypeInfo* FindGgmlType(uint32_t type) {
  for (const GgmlTypeInfo& info : kTypes) {
    if (static_cast<uint32_t>(info.type) == type) return &info;
  }
  return nullptr;
}

std::string GgmlTypeName(uint32_t type) {
  if (type < kAllNames.size() && !kAllNames[type].empty()) return std::string(kAllNames[type]);
  return "type " + std::to_string(type);
}

std::string_view AllGgmlTypeNames() { return "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K, Q6_K"; }

void Dequantize(GgmlType type, const char* src, int64_t n, float* out) {
  switch (type) {
    case GgmlType::kF32: std::memcpy(out, src, static_cast<size_t>(n) * sizeof(float)); return;
    case GgmlType::kF16: F16ToF32(src, n, out); return;
    case GgmlType::kBF16: BF16ToF32(src, n, out); return;
    case GgmlType::kQ8_0: Blocks<32, 34>(Q8_0, src, n, out); return;
    case GgmlType::kQ4_0: Blocks<32, 18>(Q4_0, src, n, out); return;
    case GgmlType::kQ4_1: Blocks<32, 20>(Q4_1, src, n, out); return;
    case GgmlType::kQ4_K: Blocks<256, 144>(Q4_K, src, n, out); return;
    case GgmlType::kQ6_K: Blocks<256, 210>(Q6_K, src, n, out); return;
  }
}

// Shifting the fields into place makes a float with an exponent 112 too small; multiplying by
// 2^112 repairs that, subnormals included. Infinity and NaN get the full exponent by hand.
float F16ToF32(uint16_t bits) {
  const uint32_t magnitude = static_cast<uint32_t>(bits & 0x7fff) << 13;
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  if ((bits & 0x7c00) == 0x7c00) return std::bit_cast<float>(sign | 0x7f800000 | magnitude);
  return std::bit_cast<float>(sign |
                              std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f));
}

uint16_t F32ToF16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  const auto signed_half = [sign](uint32_t half) { return static_cast<uint16_t>(sign | half); };
  if (magnitude > 0x7f800000) return signed_half(0x7e00 | (magnitude >> 13 & 0x3ff));
  if (magnitude >= 0x477ff000) return signed_half(0x7c00);  // 65520 and up round to infinity
  if (magnitude < 0x38800000) {
    // Subnormal: adding 0.5 puts the wanted bits, rounded by the addition, at the low end.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return signed_half(std::bit_cast<uint32_t>(shifted) - 0x3f000000);
  }
  const uint32_t rebased = magnitude - (uint32_t{112} << 23);
  return signed_half((rebased + 0xfff + (rebased >> 13 & 1)) >> 13);
}

void F16ToF32(const char* src, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    uint16_t bits = 0;
    std::memcpy(&bits, src + 2 * i, 2);
    out[i] = F16ToF32(bits);
  }
}

void BF16ToF32(const char* src, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    uint16_t bits = 0;
    std::memcpy(&bits, src + 2 * i, 2);
    out[i] = BF16ToF32(bits);
  }
}

}  // namespace retort::io
