// f32 to the file order of each type. Q8_0, Q4_0 and Q4_1 round as ggml's reference does, so that
// files come out byte for byte as other tools write them.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/packed_quantize.h"

#include <math.h>

#include "kernels/cpu/half.h"
#include "kernels/cpu/packed_layout.h"
#include "kernels/cpu/packed_nf4.h"

namespace retort::kernels {
namespace {

void StoreHalf(float value, uint8_t* out) {
  const uint16_t bits = FloatToHalf(value);
  memcpy(out, &bits, sizeof(bits));
}

float InverseOr0(float d) { return d != 0 ? 1.0f / d : 0.0f; }

void Q8_0(const float* w, uint8_t* block) {
  float absmax = 0;
  for (int i = 0; i < 32; ++i) absmax = fabsf(w[i]) > absmax ? fabsf(w[i]) : absmax;
  const float d = absmax / 127.0f, inverse = InverseOr0(d);
  StoreHalf(d, block);
  for (int i = 0; i < 32; ++i) {  // to nearest, halves away from 0: exact in f64
    const double scaled = double{w[i] * inverse};
    block[2 + i] = static_cast<uint8_t>(static_cast<int>(scaled + (scaled < 0 ? -0.5 : 0.5)));
  }
}

// A code of 0 .. 15 by truncation, as the reference rounds; out is of 16 bytes.
template <class Code>
void Nibbles(uint8_t* out, Code code) {
  const auto clamped = [&](int i) {
    const int c = static_cast<int>(code(i));
    return c < 0 ? 0 : c > 15 ? 15 : c;
  };
  for (int i = 0; i < 16; ++i) out[i] = static_cast<uint8_t>(clamped(i) | clamped(i + 16) << 4);
}

void Q4_0(const float* w, uint8_t* block) {
  float extreme = 0;  // the weight furthest from 0: it becomes code 0, -8 times the scale
  for (int i = 0; i < 32; ++i) extreme = fabsf(w[i]) > fabsf(extreme) ? w[i] : extreme;
  const float d = extreme / -8.0f, inverse = InverseOr0(d);
  StoreHalf(d, block);
  Nibbles(block + 2, [&](int i) { return w[i] * inverse + 8.5f; });
}

void Q4_1(const float* w, uint8_t* block) {
  float low = w[0], high = w[0];
  for (int i = 1; i < 32; ++i) {
    low = w[i] < low ? w[i] : low;
    high = w[i] > high ? w[i] : high;
  }
  const float d = (high - low) / 15.0f, inverse = InverseOr0(d);
  StoreHalf(d, block);
  StoreHalf(low, block + 2);
  Nibbles(block + 4, [&](int i) { return (w[i] - low) * inverse + 0.5f; });
}

void Half(const float* w, uint8_t* out) { StoreHalf(*w, out); }
void Bf16(const float* w, uint8_t* out) {
  const uint16_t bits = FloatToBf16(*w);
  memcpy(out, &bits, sizeof(bits));
}
void Float(const float* w, uint8_t* out) { memcpy(out, w, sizeof(*w)); }

using BlockQuantizer = void (*)(const float*, uint8_t*);
constexpr BlockQuantizer kQuantizers[RETORT_PACKED_TYPES] = {
    Float, Half, Bf16, Q8_0, Q4_0, Q4_1, QuantizeQ4K, QuantizeQ6K, Nf4QuantizeBlock};

}  // namespace
}  // namespace retort::kernels

extern "C" void retort_quantize(int type, const float* weights, int64_t n, void* blocks) noexcept {
  const auto* t = retort::kernels::FindPackedType(type);
  if (t == nullptr) return;
  auto* out = static_cast<uint8_t*>(blocks);
  for (int64_t i = 0; i < n / t->weights; ++i) {
    retort::kernels::kQuantizers[type](weights + i * t->weights, out + i * t->file_bytes);
  }
}
