// Q4_K and Q6_K: 256 weights share f16 steps, sub-blocks have small integer multiples of them.
// Method: for each sub-block some candidate ranges give codes; for given codes the best scale (and
// minimum) is a weighted least-squares fit; the candidate of least error wins. Weights count by
// their magnitude, as larger ones carry more of a product. Then the scales are rounded to their
// integers and the codes chosen anew for the rounded scales.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/packed_quantize.h"

#include <math.h>

#include "kernels/cpu/half.h"

namespace retort::kernels {
namespace {

// To the nearest integer of [low, high], both small: adding 1.5 * 2^23 leaves no fraction.
float RoundClamped(float value, float low, float high) {
  const float clamped = value < low ? low : value > high ? high : value;
  return (clamped + 12582912.0f) - 12582912.0f;
}

// Four numbers at once: the fits below are sums over 16 or 32 weights.
typedef float Four __attribute__((vector_size(16)));
Four Load(const float* p) {
  Four v;
  memcpy(&v, p, sizeof(v));
  return v;
}
Four RoundClamped(Four value, float low, float high) {
  Four clamped = value < low ? Four{} + low : value;
  clamped = clamped > high ? Four{} + high : clamped;
  return (clamped + 12582912.0f) - 12582912.0f;
}
float Sum(Four v) { return (v[0] + v[1]) + (v[2] + v[3]); }

// Importance of each of n weights.
void Importance(const float* w, int n, float* importance) {
  float squares = 0;
  for (int i = 0; i < n; ++i) squares += w[i] * w[i];
  const float rms = sqrtf(squares / static_cast<float>(n));
  for (int i = 0; i < n; ++i) importance[i] = rms + fabsf(w[i]);
}

// 16-bit float not below a non-negative value, so that integers of the step still reach it.
uint16_t HalfNotBelow(float value) {
  const uint16_t half = FloatToHalf(value);
  return HalfToFloat(half) < value && half < 0x7bff ? static_cast<uint16_t>(half + 1) : half;
}

// ---- Q4_K: w = scale * code - minimum, both not negative --------------------------------------

struct Affine {
  float scale = 0, minimum = 0, error = INFINITY;
};

// The best scale and minimum for the codes that (w + minimum) * inverse rounds to.
Affine FitAffine(const float* w, const float* importance, float inverse, float minimum) {
  Four q[8], h_sum = {}, q_sum = {}, qq_sum = {}, w_sum = {}, wq_sum = {};
  for (int i = 0; i < 8; ++i) {
    const Four wi = Load(w + 4 * i), h = Load(importance + 4 * i);
    q[i] = RoundClamped((wi + minimum) * inverse, 0, 15);
    h_sum += h;
    q_sum += h * q[i];
    qq_sum += h * q[i] * q[i];
    w_sum += h * wi;
    wq_sum += h * wi * q[i];
  }
  const float sum_h = Sum(h_sum), sum_q = Sum(q_sum), sum_qq = Sum(qq_sum);
  const float sum_w = Sum(w_sum), sum_wq = Sum(wq_sum);
  Affine fit;
  const float determinant = sum_h * sum_qq - sum_q * sum_q;
  if (determinant > 0) {
    fit.scale = (sum_h * sum_wq - sum_q * sum_w) / determinant;
    fit.minimum = (sum_q * sum_wq - sum_qq * sum_w) / determinant;
  }
  if (fit.minimum < 0 || determinant <= 0) {  // no offset below 0 is stored
    fit.minimum = 0;
    fit.scale = sum_qq > 0 ? sum_wq / sum_qq : 0;
  }
  Four error = {};
  for (int i = 0; i < 8; ++i) {
    const Four miss = fit.scale * q[i] - fit.minimum - Load(w + 4 * i);
    error += Load(importance + 4 * i) * miss * miss;
  }
  fit.error = Sum(error);
  return fit;
}

Affine BestAffine(const float* w) {
  float importance[32], low = 0, high = 0;  // the range holds 0, so that the minimum is >= 0
  Importance(w, 32, importance);
  for (int i = 0; i < 32; ++i) {
    low = w[i] < low ? w[i] : low;
    high = w[i] > high ? w[i] : high;
  }
  if (!(high > low)) return {.scale = 0, .minimum = 0, .error = 0};
  Affine best;
  for (int step = -10; step <= 10; ++step) {  // codes that overshoot 15 clip the extremes
    const float inverse = (15.0f + 0.1f * static_cast<float>(step)) / (high - low);
    const Affine fit = FitAffine(w, importance, inverse, -low);
    if (fit.error < best.error && fit.scale >= 0) best = fit;
  }
  return best;
}

// The 6-bit scales and minima of eight sub-blocks in 12 bytes.
void StoreSixBits(const uint8_t* scales, const uint8_t* minima, uint8_t* out) {
  for (int j = 0; j < 4; ++j) {
    out[j] = static_cast<uint8_t>(scales[j] | scales[j + 4] >> 4 << 6);
    out[j + 4] = static_cast<uint8_t>(minima[j] | minima[j + 4] >> 4 << 6);
    out[j + 8] = static_cast<uint8_t>((scales[j + 4] & 15) | minima[j + 4] << 4);
  }
}

// ---- Q6_K: w = scale * code, codes -32 .. 31 ---------------------------------------------------

float BestScale(const float* w) {
  float importance[16], extreme = 0;
  Importance(w, 16, importance);
  for (int i = 0; i < 16; ++i) extreme = fabsf(w[i]) > fabsf(extreme) ? w[i] : extreme;
  if (extreme == 0) return 0;
  float best = 0, best_gain = -1;
  for (int step = -9; step <= 9; ++step) {  // the extreme weight becomes about -32
    const float inverse = -(32.0f + 0.1f * static_cast<float>(step)) / extreme;
    Four wq_sum = {}, qq_sum = {};
    for (int i = 0; i < 16; i += 4) {
      const Four wi = Load(w + i), h = Load(importance + i);
      const Four q = RoundClamped(wi * inverse, -32, 31);
      wq_sum += h * wi * q;
      qq_sum += h * q * q;
    }
    const float sum_wq = Sum(wq_sum), sum_qq = Sum(qq_sum);
    // The error of the fitted scale is a constant less this.
    const float gain = sum_qq > 0 ? sum_wq * sum_wq / sum_qq : 0;
    if (gain > best_gain) {
      best_gain = gain;
      best = sum_qq > 0 ? sum_wq / sum_qq : 0;
    }
  }
  return best;
}

}  // namespace

void QuantizeQ4K(const float* weights, uint8_t* block) noexcept {
  Affine fits[8];
  float scale_max = 0, minimum_max = 0;
  for (int j = 0; j < 8; ++j) {
    fits[j] = BestAffine(weights + 32 * j);
    scale_max = fmaxf(scale_max, fits[j].scale);
    minimum_max = fmaxf(minimum_max, fits[j].minimum);
  }
  const uint16_t d_bits = HalfNotBelow(scale_max / 63.0f);
  const uint16_t min_bits = HalfNotBelow(minimum_max / 63.0f);
  const float d = HalfToFloat(d_bits), d_min = HalfToFloat(min_bits);
  memcpy(block, &d_bits, sizeof(d_bits));
  memcpy(block + 2, &min_bits, sizeof(min_bits));
  uint8_t scales[8], minima[8];
  memset(block + 16, 0, 128);
  for (int j = 0; j < 8; ++j) {
    scales[j] = static_cast<uint8_t>(d > 0 ? RoundClamped(fits[j].scale / d, 0, 63) : 0);
    minima[j] = static_cast<uint8_t>(d_min > 0 ? RoundClamped(fits[j].minimum / d_min, 0, 63) : 0);
    const float scale = d * static_cast<float>(scales[j]);
    const float minimum = d_min * static_cast<float>(minima[j]);
    uint8_t* const bytes = block + 16 + 32 * (j / 2);
    for (int i = 0; i < 32; ++i) {
      const float code =
          scale > 0 ? RoundClamped((weights[32 * j + i] + minimum) / scale, 0, 15) : 0;
      bytes[i] = static_cast<uint8_t>(bytes[i] | static_cast<int>(code) << (j % 2 * 4));
    }
  }
  StoreSixBits(scales, minima, block + 4);
}

void QuantizeQ6K(const float* weights, uint8_t* block) noexcept {
  float fits[16], scale_max = 0;
  for (int j = 0; j < 16; ++j) {
    fits[j] = BestScale(weights + 16 * j);
    scale_max = fmaxf(scale_max, fabsf(fits[j]));
  }
  const uint16_t d_bits = HalfNotBelow(scale_max / 127.0f);
  const float d = HalfToFloat(d_bits);
  memset(block, 0, 192);
  memcpy(block + 208, &d_bits, sizeof(d_bits));
  for (int j = 0; j < 16; ++j) {
    const float integer = d > 0 ? RoundClamped(fits[j] / d, -127, 127) : 0;
    block[192 + j] = static_cast<uint8_t>(static_cast<int8_t>(integer));
    const float scale = d * integer;
    const int half = j / 8, quarter = j % 8 / 2;
    for (int i = 0; i < 16; ++i) {
      const float q = scale != 0 ? RoundClamped(weights[16 * j + i] / scale, -32, 31) : 0;
      const int code = static_cast<int>(q) + 32, column = 16 * (j % 2) + i;
      uint8_t& low = block[64 * half + 32 * (quarter & 1) + column];
      uint8_t& high = block[128 + 32 * half + column];
      low = static_cast<uint8_t>(low | (code & 15) << (quarter / 2 * 4));
      high = static_cast<uint8_t>(high | code >> 4 << (2 * quarter));
    }
  }
}

}  // namespace retort::kernels
