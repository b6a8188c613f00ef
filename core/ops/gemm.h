// Dense matrix products over views, by LibTorch's BLAS. f32 or f64; inner stride 1.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/base/tensor.h"

namespace retort::ops {

enum class Transpose : uint8_t { kNo, kYes };

// c = op(a) * op(b), or c += op(a) * op(b). All 2-D and of one dtype; c overlaps neither.
void Gemm(const TensorView& a, Transpose ta, const TensorView& b, Transpose tb, const TensorView& c,
          bool accumulate);

}  // namespace retort::ops
