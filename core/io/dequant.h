// Stored weights to floating point: the block formats of GGUF and the 16-bit floats. The layouts
// are those of docs/formats.md §9. Pure functions of bytes; sizes are the caller's to check.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/base/status.h"

namespace retort::io {

enum class GgmlType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ6_K = 14,
  kBF16 = 30,
};

struct GgmlTypeInfo {
  GgmlType type;
  std::string_view name;   // "Q4_K"
  uint32_t block_weights;  // weights per block: rows are whole blocks
  uint32_t block_bytes;
};
// NULL: a type that we don't read. `AllGgmlTypeNames` is for messages: "F32, F16, ...".
const GgmlTypeInfo* FindGgmlType(uint32_t type);
// The name of any type that GGUF ever had ("IQ2_XXS"), or "type 99": for refusals.
std::string GgmlTypeName(uint32_t type);
std::string_view AllGgmlTypeNames();

// `n` weights (whole blocks) from `src`, which may be unaligned.
void Dequantize(GgmlType type, const char* src, int64_t n, float* out);

inline float BF16ToF32(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }
// To nearest even; NaN stays NaN (quiet).
inline uint16_t F32ToBF16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
float F16ToF32(uint16_t bits);
uint16_t F32ToF16(float value);  // to nearest even, overflow to infinity

void F16ToF32(const char* src, int64_t n, float* out);
void BF16ToF32(const char* src, int64_t n, float* out);

}  // namespace retort::io
