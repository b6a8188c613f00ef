// slice and concat: both move parts of heads between two matrices of the same rows.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/ops/dispatch.h"
#include "core/ops/ops.h"
#include "core/ops/split.h"

namespace retort::ops {
namespace {

// A part of each head of a row, one side of a move.
struct Side {
  const TensorView& view;
  int64_t begin;   // of head 0's part
  int64_t stride;  // from head to head; 0: all heads mean the same elements
};

// The part of every head, `width` wide, from one matrix into the other: copied, or added where
// `add` is set or an earlier head of the move has written already.
template <class T>
void MoveRow(const T* from, int64_t from_stride, T* to, int64_t to_stride, int64_t n_heads,
             int64_t width, bool add) {
  for (int64_t h = 0; h < n_heads; ++h) {
    const T* src = from + h * from_stride;
    T* dst = to + h * to_stride;
    if (add || (to_stride == 0 && h > 0)) {
      for (int64_t i = 0; i < width; ++i) dst[i] += src[i];
    } else {
      std::copy_n(src, width, dst);
    }
  }
}

// `clear`: what the move doesn't write in a row becomes 0.
void Move(const Side& from, const Side& to, int64_t n_heads, int64_t width, bool add, bool clear,
          int n_threads) {
  ByType(from.view, [&](auto zero) {
    using T = decltype(zero);
    const int64_t from_cols = from.view.cols(), to_cols = to.view.cols();
    const int64_t rows = from.view.rows();
    Split(rows, rows * n_heads * width, n_threads, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        T* row = to.view.as<T>() + r * to_cols;
        if (clear) std::fill_n(row, to_cols, T{0});
        MoveRow(from.view.as<T>() + r * from_cols + from.begin, from.stride, row + to.begin,
                to.stride, n_heads, width, add);
      }
    });
  });
}

}  // namespace

void SliceForward(const TensorView& x, int64_t n_heads, int64_t begin, const TensorView& y,
                  int n_threads) {
  const int64_t width = y.cols() / n_heads;
  Move({x, begin, x.cols() / n_heads}, {y, 0, width}, n_heads, width, false, false, n_threads);
}

void SliceBackward(const TensorView& dy, int64_t n_heads, int64_t begin, const TensorView& dx,
                   bool accumulate, int n_threads) {
  const int64_t width = dy.cols() / n_heads;
  Move({dy, 0, width}, {dx, begin, dx.cols() / n_heads}, n_heads, width, accumulate, !accumulate,
       n_threads);
}

void ConcatForward(const TensorView& x, const ConcatPart& part, const TensorView& y,
                   int n_threads) {
  const int64_t n = part.n_heads, width = part.repeat ? x.cols() : x.cols() / n;
  Move({x, 0, part.repeat ? 0 : width}, {y, part.begin, y.cols() / n}, n, width, false, false,
       n_threads);
}

void ConcatBackward(const TensorView& dy, const ConcatPart& part, const TensorView& dx,
                    bool accumulate, int n_threads) {
  const int64_t n = part.n_heads, width = part.repeat ? dx.cols() : dx.cols() / n;
  Move({dy, part.begin, dy.cols() / n}, {dx, 0, part.repeat ? 0 : width}, n, width, accumulate,
       false, n_threads);
}

}  // namespace retort::ops
