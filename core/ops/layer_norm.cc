// layer_norm: rows are independent forward and in dx; dw and db go column by column, rows in order.
// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cmath>

#include "core/ops/dispatch.h"
#include "core/ops/ops.h"
#include "core/ops/split.h"

namespace retort::ops {
namespace {

constexpr int64_t kLanes = 16;    // partial sums of a row
constexpr int64_t kColumns = 64;  // summed together over the rows

// term(0) + ... + term(n - 1), in an order that depends on n alone.
template <class T, class Term>
T Sum(int64_t n, Term term) {
  std::array<T, kLanes> lanes{};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t l = 0; l < kLanes; ++l) lanes[static_cast<size_t>(l)] += term(i + l);
  }
  T sum = 0;
  for (; i < n; ++i) sum += term(i);
  for (const T lane : lanes) sum += lane;
  return sum;
}

// stats: mean and rstd, or NULL.
template <class T>
void ForwardRow(const T* x, const T* w, const T* b, T* y, T* stats, int64_t n, double eps) {
  const T mean = Sum<T>(n, [&](int64_t i) { return x[i]; }) / static_cast<T>(n);
  const auto square = [&](int64_t i) { return (x[i] - mean) * (x[i] - mean); };
  const T rstd = 1 / std::sqrt(Sum<T>(n, square) / static_cast<T>(n) + static_cast<T>(eps));
  if (stats != nullptr) stats[0] = mean, stats[1] = rstd;
  if (b == nullptr) {
    for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * rstd * w[i];
  } else {
    for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * rstd * w[i] + b[i];
  }
}

template <class T>
void BackwardRow(const T* dy, const T* x, const T* w, const T* stats, T* dx, int64_t n, bool add) {
  const T mean = stats[0], rstd = stats[1];
  const auto normed = [&](int64_t i) { return (x[i] - mean) * rstd; };
  const auto size = static_cast<T>(n);
  const T shift = Sum<T>(n, [&](int64_t i) { return dy[i] * w[i]; }) / size;
  const T slope = Sum<T>(n, [&](int64_t i) { return dy[i] * w[i] * normed(i); }) / size;
  const auto gradient = [&](int64_t i) {
    return rstd * (dy[i] * w[i] - shift - normed(i) * slope);
  };
  if (add) {
    for (int64_t i = 0; i < n; ++i) dx[i] += gradient(i);
  } else {
    for (int64_t i = 0; i < n; ++i) dx[i] = gradient(i);
  }
}

// Columns [begin, end), at most kColumns, of dw and db; either may be NULL.
template <class T>
void AddColumns(const T* dy, const T* x, const T* stats, int64_t rows, int64_t cols, int64_t begin,
                int64_t end, T* dw, T* db) {
  std::array<double, kColumns> w_sums{}, b_sums{};
  for (int64_t r = 0; r < rows; ++r) {
    const T mean = stats[2 * r], rstd = stats[2 * r + 1];
    const T *dy_row = dy + r * cols + begin, *x_row = x + r * cols + begin;
    for (int64_t c = 0; c < end - begin; ++c) {
      const auto k = static_cast<size_t>(c);
      w_sums[k] += static_cast<double>(dy_row[c] * ((x_row[c] - mean) * rstd));
      b_sums[k] += static_cast<double>(dy_row[c]);
    }
  }
  for (int64_t c = begin; c < end; ++c) {
    const auto k = static_cast<size_t>(c - begin);
    if (dw != nullptr) dw[c] += static_cast<T>(w_sums[k]);
    if (db != nullptr) db[c] += static_cast<T>(b_sums[k]);
  }
}

}  // namespace

void LayerNormForward(const TensorView& x, const TensorView& w, const TensorView* b, double eps,
                      const TensorView& y, const TensorView* stats, int n_threads) {
  ByType(x, [&](auto zero) {
    using T = decltype(zero);
    const int64_t n = x.cols();
    const T* bias = b == nullptr ? nullptr : b->as<T>();
    Split(x.rows(), x.numel(), n_threads, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        T* kept = stats == nullptr ? nullptr : stats->as<T>() + 2 * r;
        ForwardRow(x.as<T>() + r * n, w.as<T>(), bias, y.as<T>() + r * n, kept, n, eps);
      }
    });
  });
}

void LayerNormBackward(const TensorView& dy, const TensorView& x, const TensorView& w,
                       const TensorView& stats, const TensorView& dx, bool accumulate,
                       const TensorView& dw, const TensorView& db, int n_threads) {
  ByType(x, [&](auto zero) {
    using T = decltype(zero);
    const int64_t n = x.cols();
    if (dw.data != nullptr || db.data != nullptr) {  // first: dx may be dy
      const int64_t blocks = (n + kColumns - 1) / kColumns;
      Split(blocks, x.numel(), n_threads, [&](int64_t begin, int64_t end) {
        for (int64_t c = begin * kColumns; c < std::min(end * kColumns, n); c += kColumns) {
          AddColumns(dy.as<T>(), x.as<T>(), stats.as<T>(), x.rows(), n, c,
                     std::min(c + kColumns, n), dw.as<T>(), db.as<T>());
        }
      });
    }
    Split(x.rows(), x.numel(), n_threads, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        BackwardRow(dy.as<T>() + r * n, x.as<T>() + r * n, w.as<T>(), stats.as<T>() + 2 * r,
                    dx.as<T>() + r * n, n, accumulate);
      }
    });
  });
}

}  // namespace retort::ops
