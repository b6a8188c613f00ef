// Calls a generic lambda with a value of the element type of a view: f32 or f64.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/base/status.h"
#include "core/base/tensor.h"

namespace retort::ops {

template <class Fn>
void ByType(const TensorView& view, Fn&& fn) {
  switch (view.dtype) {
    case DType::kF32: return fn(float{});
    case DType::kF64: return fn(double{});
    default:
      throw Error(
          Unimplemented("ops run in f32 or f64, not " + std::string(DTypeName(view.dtype))));
  }
}

}  // namespace retort::ops
