// On x86-64 BLAS is called directly (blas.h): a product costs no dispatch and allocates nothing.
// Elsewhere it goes through LibTorch's operators. Where our own blocked product is faster than the
// BLAS, those shapes that it is good at go there.
// SPDX-License-Identifier: Apache-2.0
#include "core/ops/gemm.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "core/base/features.h"
#include "core/base/status.h"
#include "core/ops/blas.h"
#include "retort/kernels/gemm.h"

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

// Of an f32 product. Measured on Zen 4 (GFLOP/s of one thread, BLAS against ours): 576 x 1536 over
// depth 1024 of activations and weights 98 to 103 against 104 to 111, low-rank shapes 40 to 95
// against 90 to 112; but depth 16 101 against 77, and gradients of large weights 100 against 98.
constexpr int64_t kShallow = 64, kThin = 56;
constexpr int64_t kCacheSet = 1024;  // such strides the BLAS copies better

bool IsBlocked(const TensorView& a, Transpose ta, const TensorView& c) {
  static const bool enabled = !IsDisabled("blocked");
  if (!enabled || BlasThreads() < 1 || retort_gemm_is_fast() == 0) return false;
  if (ta == Transpose::kYes) return std::min(c.shape[0], c.shape[1]) <= kThin;
  return a.shape[1] >= kShallow && a.strides[0] % kCacheSet != 0;
}

void CallBlocked(const TensorView& a, Transpose ta, const TensorView& b, Transpose tb,
                 const TensorView& c, bool accumulate) {
  retort_gemm_term term = {.a = a.as<float>(),
                           .b = b.as<float>(),
                           .k = ta == Transpose::kNo ? a.shape[1] : a.shape[0],
                           .a_stride = a.strides[0],
                           .b_stride = b.strides[0],
                           .a_transposed = ta == Transpose::kYes ? 1 : 0,
                           .b_transposed = tb == Transpose::kYes ? 1 : 0};
  retort_gemm_shape shape = {.m = c.shape[0],
                             .n = c.shape[1],
                             .c_stride = c.strides[0],
                             .n_terms = 1,
                             .accumulate = accumulate ? 1 : 0,
                             .c_transposed = 0};
  // A thin result of a^T b is best worked out with its few columns as rows: c^T = b^T a.
  if (ta == Transpose::kYes && tb == Transpose::kNo && shape.n < shape.m) {
    std::swap(term.a, term.b);
    std::swap(term.a_stride, term.b_stride);
    std::swap(shape.m, shape.n);
    shape.c_transposed = 1;
  }
  retort_gemm_f32(&shape, &term, c.as<float>(), BlasThreads());
}

}  // namespace

void Gemm(const TensorView& a, Transpose ta, const TensorView& b, Transpose tb, const TensorView& c,
          bool accumulate) {
  if (c.numel() == 0) return;
  if (c.dtype == DType::kF32 && IsBlocked(a, ta, c)) {
    return CallBlocked(a, ta, b, tb, c, accumulate);
  }
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
