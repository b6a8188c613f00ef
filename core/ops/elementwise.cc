// add, mul, scale, and moving rows.
// SPDX-License-Identifier: Apache-2.0
#include "retort/kernels/elementwise.h"

#include <cstring>

#include "core/ops/broadcast.h"
#include "core/ops/dispatch.h"
#include "core/ops/ops.h"

namespace retort::ops {

void AddForward(const TensorView& a, const TensorView& b, const TensorView& y, int n_threads) {
  if (y.dtype == DType::kF32) {
    retort_add_f32(a.as<float>(), b.as<float>(), y.as<float>(), y.numel(), n_threads);
  } else {
    retort_add_f64(a.as<double>(), b.as<double>(), y.as<double>(), y.numel(), n_threads);
  }
}

void ScaleForward(const TensorView& x, double factor, const TensorView& y, int n_threads) {
  if (y.dtype == DType::kF32) {
    retort_scale_f32(x.as<float>(), factor, y.as<float>(), y.numel(), n_threads);
  } else {
    retort_scale_f64(x.as<double>(), factor, y.as<double>(), y.numel(), n_threads);
  }
}

void MulForward(const TensorView& a, const TensorView& b, const TensorView& y, int n_threads) {
  if (a.cols() != b.cols()) return MulColumnForward(a, b, y, n_threads);
  if (y.dtype == DType::kF32) {
    retort_mul_f32(a.as<float>(), b.as<float>(), y.as<float>(), y.numel(), n_threads);
  } else {
    retort_mul_f64(a.as<double>(), b.as<double>(), y.as<double>(), y.numel(), n_threads);
  }
}

void MulBackward(const TensorView& dy, const TensorView& a, const TensorView& b,
                 const TensorView& da, const TensorView& db, int n_threads) {
  if (a.cols() != b.cols()) return MulColumnBackward(dy, a, b, da, db, n_threads);
  MulForward(dy, b, da, n_threads);
  MulForward(dy, a, db, n_threads);
}

void GatherRows(const TensorView& x, std::span<const int32_t> rows, const TensorView& out) {
  const auto bytes = static_cast<size_t>(x.cols() * DTypeSize(x.dtype));
  for (size_t r = 0; r < rows.size(); ++r) {
    const auto row = static_cast<int64_t>(r);
    std::memcpy(out.Rows(row, row + 1).data, x.Rows(rows[r], rows[r] + 1).data, bytes);
  }
}

void ScatterRows(const TensorView& x, std::span<const int32_t> rows, const TensorView& out) {
  const auto bytes = static_cast<size_t>(x.cols() * DTypeSize(x.dtype));
  for (size_t r = 0; r < rows.size(); ++r) {
    const auto row = static_cast<int64_t>(r);
    std::memcpy(out.Rows(rows[r], rows[r] + 1).data, x.Rows(row, row + 1).data, bytes);
  }
}

void AddRows(const TensorView& x, std::span<const int32_t> rows, const TensorView& out) {
  ByType(x, [&](auto zero) {
    using T = decltype(zero);
    const int64_t cols = x.cols();
    for (size_t r = 0; r < rows.size(); ++r) {
      const T* from = x.as<T>() + static_cast<int64_t>(r) * cols;
      T* to = out.as<T>() + rows[r] * cols;
      for (int64_t c = 0; c < cols; ++c) to[c] += from[c];
    }
  });
}

}  // namespace retort::ops
