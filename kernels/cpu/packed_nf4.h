// NF4's code books and its second quantisation (arXiv 2305.14314, in bitsandbytes' numbers): each
// 64 weights have an absmax; 256 absmax in row order, less the mean of all, have a scale, and
// become codes of the 256 "dynamic" values (arXiv 1511.04561).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdint.h>

namespace retort::kernels {

constexpr int64_t kNf4Block = 64, kNf4ScaleBlock = 256;
constexpr int64_t Nf4ScaleCount(int64_t absmaxes) {
  return (absmaxes + kNf4ScaleBlock - 1) / kNf4ScaleBlock;
}

const float* Nf4Code() noexcept;     // 16 values, rising from -1 to 1
const float* Nf4Dynamic() noexcept;  // 256 values, rising from -0.993 to 1

// One block of 64 weights in the file order: 32 bytes (the even weight in the high nibble), absmax.
void Nf4QuantizeBlock(const float* weights, uint8_t* block) noexcept;

// The second quantisation of the absmax of rows * blocks blocks in the file order (36 bytes each).
struct Nf4Statistics {
  uint8_t* codes;  // of group g at g * group_stride, there of block b and row r at 16 b + r
  int64_t group_stride;
  float* scales;  // one for each kNf4ScaleBlock in row order
  float* mean;
};
void Nf4QuantizeAbsmax(const uint8_t* file, int64_t rows, int64_t blocks,
                       const Nf4Statistics& out) noexcept;

}  // namespace retort::kernels
