// add and mul where b is narrower than a: a weight for every row, or one number per row.
// SPDX-License-Identifier: Apache-2.0
#include "core/ops/broadcast.h"

#include <array>

#include "core/ops/dispatch.h"
#include "core/ops/ops.h"
#include "core/ops/split.h"

namespace retort::ops {
namespace {

constexpr int64_t kColumns = 64;  // summed together over the rows

// Calls fn(row number) for every row of `x`.
template <class Fn>
void ForRows(const TensorView& x, int n_threads, Fn&& fn) {
  Split(x.rows(), x.numel(), n_threads, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) fn(r);
  });
}

// sums[c] += sum over rows of dy * x, for columns [begin, end), at most kColumns.
template <class T>
void AddColumns(const T* dy, const T* x, int64_t rows, int64_t cols, int64_t begin, int64_t end,
                T* sums) {
  std::array<double, kColumns> total{};
  for (int64_t r = 0; r < rows; ++r) {
    const T *dy_row = dy + r * cols + begin, *x_row = x + r * cols + begin;
    for (int64_t c = 0; c < end - begin; ++c) {
      total[static_cast<size_t>(c)] += static_cast<double>(dy_row[c] * x_row[c]);
    }
  }
  for (int64_t c = begin; c < end; ++c) {
    sums[c] += static_cast<T>(total[static_cast<size_t>(c - begin)]);
  }
}

}  // namespace

void AddWeightForward(const TensorView& x, const TensorView& w, const TensorView& y,
                      int n_threads) {
  ByType(x, [&](auto zero) {
    using T = decltype(zero);
    const int64_t n = x.cols();
    ForRows(x, n_threads, [&](int64_t r) {
      const T *in = x.as<T>() + r * n, *weight = w.as<T>();
      T* out = y.as<T>() + r * n;
      for (int64_t i = 0; i < n; ++i) out[i] = in[i] + weight[i];
    });
  });
}

void MulWeightForward(const TensorView& x, const TensorView& w, const TensorView& y,
                      int n_threads) {
  if (w.numel() != x.cols()) {
    return ByType(x, [&](auto zero) {
      ScaleForward(x, static_cast<double>(*w.as<decltype(zero)>()), y, n_threads);
    });
  }
  ByType(x, [&](auto zero) {
    using T = decltype(zero);
    const int64_t n = x.cols();
    ForRows(x, n_threads, [&](int64_t r) {
      const T *in = x.as<T>() + r * n, *weight = w.as<T>();
      T* out = y.as<T>() + r * n;
      for (int64_t i = 0; i < n; ++i) out[i] = in[i] * weight[i];
    });
  });
}

void MulWeightBackwardInput(const TensorView& dy, const TensorView& w, const TensorView& dx,
                            bool accumulate, int n_threads) {
  if (!accumulate) return MulWeightForward(dy, w, dx, n_threads);
  ByType(dy, [&](auto zero) {
    using T = decltype(zero);
    const int64_t n = dy.cols(), step = w.numel() == n ? 1 : 0;
    ForRows(dy, n_threads, [&](int64_t r) {
      const T *grad = dy.as<T>() + r * n, *weight = w.as<T>();
      T* out = dx.as<T>() + r * n;
      for (int64_t i = 0; i < n; ++i) out[i] += grad[i] * weight[i * step];
    });
  });
}

void MulWeightBackwardWeight(const TensorView& dy, const TensorView& x, const TensorView& dw,
                             int n_threads) {
  ByType(dy, [&](auto zero) {
    using T = decltype(zero);
    const int64_t n = dy.cols();
    if (dw.numel() != n) {  // all elements in order, by one thread
      double sum = 0;
      for (int64_t i = 0; i < dy.numel(); ++i) {
        sum += static_cast<double>(dy.as<T>()[i] * x.as<T>()[i]);
      }
      *dw.as<T>() += static_cast<T>(sum);
      return;
    }
    Split((n + kColumns - 1) / kColumns, dy.numel(), n_threads, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin * kColumns; c < std::min(end * kColumns, n); c += kColumns) {
        AddColumns(dy.as<T>(), x.as<T>(), dy.rows(), n, c, std::min(c + kColumns, n), dw.as<T>());
      }
    });
  });
}

void MulColumnForward(const TensorView& a, const TensorView& b, const TensorView& y,
                      int n_threads) {
  ByType(a, [&](auto zero) {
    using T = decltype(zero);
    const int64_t n = a.cols();
    ForRows(a, n_threads, [&](int64_t r) {
      const T factor = b.as<T>()[r], *in = a.as<T>() + r * n;
      T* out = y.as<T>() + r * n;
      for (int64_t i = 0; i < n; ++i) out[i] = in[i] * factor;
    });
  });
}

void MulColumnBackward(const TensorView& dy, const TensorView& a, const TensorView& b,
                       const TensorView& da, const TensorView& db, int n_threads) {
  ByType(dy, [&](auto zero) {
    using T = decltype(zero);
    const int64_t n = a.cols();
    ForRows(a, n_threads, [&](int64_t r) {
      const T factor = b.as<T>()[r], *in = a.as<T>() + r * n, *grad = dy.as<T>() + r * n;
      T *out = da.as<T>() + r * n, sum = 0;
      for (int64_t i = 0; i < n; ++i) {
        sum += grad[i] * in[i];
        out[i] = grad[i] * factor;
      }
      db.as<T>()[r] = sum;
    });
  });
}

}  // namespace retort::ops
