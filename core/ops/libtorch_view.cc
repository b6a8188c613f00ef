// SPDX-License-Identifier: Apache-2.0
#include "core/ops/libtorch_view.h"

#if !defined(__x86_64__)

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>

namespace retort::ops {

at::Tensor ToTensor(const TensorView& view) {
  assert(view.dtype == DType::kF32 || view.dtype == DType::kF64);
  const auto n = static_cast<size_t>(view.ndim);
  const auto type = view.dtype == DType::kF32 ? at::kFloat : at::kDouble;
  return at::from_blob(view.data, at::IntArrayRef(view.shape.data(), n),
                       at::IntArrayRef(view.strides.data(), n), at::TensorOptions().dtype(type));
}

}  // namespace retort::ops

#endif
