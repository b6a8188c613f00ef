// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/packed_nf4.h"

#include <math.h>
#include <string.h>

#include <algorithm>
#include <array>

#include "kernels/cpu/packed_table.h"

namespace retort::kernels {
namespace {

// Seven decades, 1e-6 to 1; decade e has 2^e values, the middles of as many equal parts of
// [0.1, 1] times 10^(e-6), and their negatives; then 0 and 1. Rounded as single precision rounds
// where bitsandbytes computes them (a fused multiply-add per boundary).
consteval std::array<float, 256> MakeDynamic() {
  std::array<float, 256> values = {};
  size_t n = 0;
  const float low = 0.1f;
  const double decades[] = {1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1};
  for (int e = 0; e < 7; ++e) {
    const int parts = 1 << e;
    const float step = (1.0f - low) / static_cast<float>(parts);
    const auto boundary = [&](int i) {
      return i < (parts + 1) / 2 ? static_cast<float>(double{low} + double{step} * i)
                                 : static_cast<float>(1 - double{step} * (parts - i));
    };
    for (int i = 0; i < parts; ++i) {
      const float value = static_cast<float>(decades[e]) * ((boundary(i) + boundary(i + 1)) / 2.0f);
      values[n++] = value;
      values[n++] = -value;
    }
  }
  values[n++] = 0;
  values[n++] = 1;
  std::sort(values.begin(), values.end());
  return values;
}

constexpr std::array<float, 256> kDynamic = MakeDynamic();

// The quantiles of the normal distribution that the paper's appendix lists.
constexpr std::array<float, 16> kCode = {
    -1.0f,          -0.696192801f, -0.525073051f, -0.394917488f, -0.284441382f, -0.18477343f,
    -0.0910500363f, 0.0f,          0.0795802996f, 0.160930201f,  0.246112302f,  0.337915242f,
    0.440709829f,   0.562617004f,  0.722956836f,  1.0f};

template <size_t kSize>
consteval std::array<float, kSize - 1> Middles(const std::array<float, kSize>& values) {
  std::array<float, kSize - 1> middles = {};
  for (size_t i = 0; i + 1 < kSize; ++i) middles[i] = (values[i] + values[i + 1]) / 2.0f;
  return middles;
}
constexpr auto kCodeMiddles = Middles(kCode);
constexpr auto kDynamicMiddles = Middles(kDynamic);

// Index of the nearest value; of two equally near ones the lower.
template <size_t kSize>
uint8_t Nearest(const std::array<float, kSize>& middles, float value) {
  size_t at = 0;
  for (size_t step = (kSize + 1) / 2; step > 0; step /= 2) {
    if (at + step <= kSize && middles[at + step - 1] < value) at += step;
  }
  return static_cast<uint8_t>(at);
}

float AbsmaxOf(const uint8_t* blocks, int64_t i) {
  float absmax = 0;
  memcpy(&absmax, blocks + i * 36 + 32, sizeof(absmax));
  return absmax;
}

float Unit(float value) { return value < -1 ? -1 : value > 1 ? 1 : value; }

}  // namespace

void Nf4QuantizeBlock(const float* weights, uint8_t* block) noexcept {
  float absmax = 0;
  for (int i = 0; i < kNf4Block; ++i) {
    absmax = fabsf(weights[i]) > absmax ? fabsf(weights[i]) : absmax;
  }
  const float inverse = 1.0f / (absmax > 1e-38f ? absmax : 1e-38f);
  float scaled[kNf4Block];
  for (int i = 0; i < kNf4Block; ++i) scaled[i] = Unit(weights[i] * inverse);
  int codes[kNf4Block] = {};  // a code is the number of middles below: 15 comparisons of vectors
  for (const float middle : kCodeMiddles) {
    for (int i = 0; i < kNf4Block; ++i) codes[i] += scaled[i] > middle ? 1 : 0;
  }
  for (int i = 0; i < kNf4Block / 2; ++i) {
    block[i] = static_cast<uint8_t>(codes[2 * i] << 4 | codes[2 * i + 1]);
  }
  memcpy(block + 32, &absmax, sizeof(absmax));
}

void Nf4QuantizeAbsmax(const uint8_t* file, int64_t rows, int64_t blocks,
                       const Nf4Statistics& out) noexcept {
  const int64_t n = rows * blocks;
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += double{AbsmaxOf(file, i)};
  const float mean = n > 0 ? static_cast<float>(sum / static_cast<double>(n)) : 0.0f;
  *out.mean = mean;
  for (int64_t begin = 0; begin < n; begin += kNf4ScaleBlock) {
    const int64_t end = std::min(n, begin + kNf4ScaleBlock);
    float scale = 0;
    for (int64_t i = begin; i < end; ++i) scale = fmaxf(scale, fabsf(AbsmaxOf(file, i) - mean));
    out.scales[begin / kNf4ScaleBlock] = scale;
    const float inverse = 1.0f / fmaxf(scale, 1e-38f);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i / blocks, block = i % blocks;
      out.codes[row / kGroup * out.group_stride + block * kGroup + row % kGroup] =
          Nearest(kDynamicMiddles, Unit((AbsmaxOf(file, i) - mean) * inverse));
    }
  }
}

const float* Nf4Code() noexcept { return kCode.data(); }
const float* Nf4Dynamic() noexcept { return kDynamic.data(); }

}  // namespace retort::kernels

extern "C" const float* retort_nf4_code(void) noexcept { return retort::kernels::Nf4Code(); }
