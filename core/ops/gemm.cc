// SPDX-License-Identifier: Apache-2.0
#include "core/ops/gemm.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>
#include <c10/core/InferenceMode.h>

#include <utility>

#include "core/ops/libtorch_view.h"

namespace retort::ops {
namespace {

TensorView Oriented(TensorView v, Transpose t) {
  if (t == Transpose::kYes) {
    std::swap(v.shape[0], v.shape[1]);
    std::swap(v.strides[0], v.strides[1]);
  }
  return v;
}

}  // namespace

void Gemm(const TensorView& a, Transpose ta, const TensorView& b, Transpose tb, const TensorView& c,
          bool accumulate) {
  if (c.numel() == 0) return;
  const c10::InferenceMode no_autograd;
  at::Tensor out = ToTensor(c);
  const at::Tensor left = ToTensor(Oriented(a, ta)), right = ToTensor(Oriented(b, tb));
  if (accumulate) {
    at::addmm_out(out, out, left, right);
  } else {
    at::mm_out(out, left, right);
  }
}

}  // namespace retort::ops
