// core's view as the plugin ABI's tensor.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/base/tensor.h"
#include "retort/abi/tensor.h"

namespace retort {

constexpr retort_dtype AbiDType(DType type) {
  const auto bits = static_cast<uint8_t>(8 * DTypeSize(type));
  switch (type) {
    case DType::kF32:
    case DType::kF64:
    case DType::kF16: return {RETORT_DTYPE_FLOAT, bits, 1};
    case DType::kBF16: return {RETORT_DTYPE_BFLOAT, bits, 1};
    case DType::kU8: return {RETORT_DTYPE_UINT, bits, 1};
    case DType::kBool: return {RETORT_DTYPE_BOOL, bits, 1};
    default: return {RETORT_DTYPE_INT, bits, 1};
  }
}

// Points into `view`, which must stay where it is as long as the tensor is used.
inline retort_tensor AbiTensor(TensorView& view) {
  return {.data = view.data,
          .device = {.type = RETORT_DEVICE_CPU, .id = 0},
          .ndim = view.ndim,
          .dtype = AbiDType(view.dtype),
          .shape = view.shape.data(),
          .strides = view.strides.data(),
          .byte_offset = 0};
}

}  // namespace retort
