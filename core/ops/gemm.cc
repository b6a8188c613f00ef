// On x86-64 BLAS is called directly (blas.h): a product costs no dispatch and allocates nothing.
// Elsewhere it goes through LibTorch's operators.
// SPDX-License-Identifier: Apache-2.0
#include "core/ops/gemm.h"

#include <limits>
#include <string>
#include <utility>

#include "core/base/status.h"
#include "core/ops/blas.h"

#if !defined(__x86_64__)
#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>
#include <c10/core/InferenceMode.h>

#include "core/ops/libtorch_view.h"
#endif

namespace retort::ops {

#if defined(__x86_64__)

namespace {

int ToInt(int64_t n) {
  if (n <= std::numeric_limits<int>::max()) return static_cast<int>(n);
  throw Error(OutOfRange("a matrix product of size " + std::to_string(n) +
                         " is beyond BLAS's 32-bit sizes; use fewer tokens per micro-batch"));
}

// BLAS counts by columns, so it sees every row-major matrix transposed: c^T = op(b)^T op(a)^T.
template <class T, class Blas>
void Call(Blas blas, const TensorView& a, Transpose ta, const TensorView& b, Transpose tb,
          const TensorView& c, bool accumulate) {
  const int m = ToInt(c.shape[1]), n = ToInt(c.shape[0]);
  const int k = ToInt(ta == Transpose::kNo ? a.shape[1] : a.shape[0]);
  const int lda = ToInt(a.strides[0]), ldb = ToInt(b.strides[0]), ldc = ToInt(c.strides[0]);
  const T alpha = 1, beta = accumulate ? T{1} : T{0};
  const char trans_a = ta == Transpose::kNo ? 'N' : 'T', trans_b = tb == Transpose::kNo ? 'N' : 'T';
  blas(&trans_b, &trans_a, &m, &n, &k, &alpha, b.as<T>(), &ldb, a.as<T>(), &lda, &beta, c.as<T>(),
       &ldc);
}

}  // namespace

void Gemm(const TensorView& a, Transpose ta, const TensorView& b, Transpose tb, const TensorView& c,
          bool accumulate) {
  if (c.numel() == 0) return;
  if (c.dtype == DType::kF32) return Call<float>(OpenBlas().sgemm, a, ta, b, tb, c, accumulate);
  Call<double>(OpenBlas().dgemm, a, ta, b, tb, c, accumulate);
}

#else

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

#endif

}  // namespace retort::ops
