// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <span>

#include "core/base/tensor.h"

namespace retort::engine {

// The type of activations and gradients: weights that aren't trained may be narrower, in blocks
// even. f64 is for tests, which have all weights in it.
inline DType ComputeType(std::span<const TensorView> params) {
  const auto is_f64 = [](const TensorView& param) { return param.dtype == DType::kF64; };
  return std::any_of(params.begin(), params.end(), is_f64) ? DType::kF64 : DType::kF32;
}

}  // namespace retort::engine
