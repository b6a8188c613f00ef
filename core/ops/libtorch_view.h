// core's view as a LibTorch tensor over the same memory. Only .cc files that include
// ATen/core/Tensor.h can call it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/base/tensor.h"

namespace at {
class Tensor;
}

namespace retort::ops {

// Borrows: the tensor must not outlive the view's memory. f32 and f64 only.
at::Tensor ToTensor(const TensorView& view);

}  // namespace retort::ops
