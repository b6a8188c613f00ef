// Quantisers of single blocks of 256 weights into the file order; in packed_quantize_k.cc.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdint.h>

namespace retort::kernels {

void QuantizeQ4K(const float* weights, uint8_t* block) noexcept;
void QuantizeQ6K(const float* weights, uint8_t* block) noexcept;

}  // namespace retort::kernels
