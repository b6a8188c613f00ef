// C interface: optimizers' passes over many tensors, and sums of squares.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <string.h>

#include "kernels/cpu/dispatch.h"
#include "retort/kernels/optimizer.h"

namespace retort::kernels {
namespace {

// Pieces of 1024 elements keep every cut on a whole vector.
constexpr int64_t kPiece = 1024;

template <class S>
void AdamW(const retort_adamw_params& params, S* p, const S* grad, S* m, S* v, int64_t n,
           int n_threads) noexcept {
  auto* const kernel = ActiveTable<S>().adamw;
  Split(n, kPiece, n, n_threads, [&](int64_t begin, int64_t end) {
    kernel(params, p + begin, grad + begin, m + begin, v + begin, end - begin);
  });
}

// A sum of squares is that of 64 segments of whole blocks, whatever the number of threads; f64
// above the blocks.
constexpr int64_t kSegments = 64;

template <class S>
void SumSegments(double (*kernel)(const S*, int64_t), const S* x, int64_t n, int64_t begin,
                 int64_t end, double* partial) {
  const int64_t blocks = (n + kSquaresBlock - 1) / kSquaresBlock;
  for (int64_t s = begin; s < end; ++s) {
    for (int64_t b = blocks * s / kSegments; b < blocks * (s + 1) / kSegments; ++b) {
      const int64_t first = b * kSquaresBlock;
      partial[s] += kernel(x + first, n - first < kSquaresBlock ? n - first : kSquaresBlock);
    }
  }
}
double Total(const double* partial) {
  double total = 0;
  for (int64_t s = 0; s < kSegments; ++s) total += partial[s];
  return total;
}

template <class S>
double SumSquares(const S* x, int64_t n, int n_threads) noexcept {
  auto* const kernel = ActiveTable<S>().sum_squares_block;
  double partial[kSegments] = {};
  Split(kSegments, 1, n, n_threads,
        [&](int64_t begin, int64_t end) { SumSegments(kernel, x, n, begin, end, partial); });
  return Total(partial);
}

// Pieces of all tensors in a row, cut evenly: range(tensor, from, to), `from` a whole piece.
template <int64_t kPiece, class Tensor, class Range>
void ForPieces(const Tensor* tensors, int64_t n_tensors, int n_threads, Range range) {
  const auto pieces = [](const Tensor& t) { return (t.n + kPiece - 1) / kPiece; };
  int64_t all = 0;
  for (int64_t i = 0; i < n_tensors; ++i) all += pieces(tensors[i]);
  Split(all, 1, all * kPiece, n_threads, [&](int64_t begin, int64_t end) {
    int64_t first = 0;  // of tensor i
    for (int64_t i = 0; i < n_tensors && first < end; first += pieces(tensors[i++])) {
      const Tensor& t = tensors[i];
      const int64_t from = begin > first ? (begin - first) * kPiece : 0;
      const int64_t to = (end - first) * kPiece < t.n ? (end - first) * kPiece : t.n;
      if (from < to) range(t, from, to);
    }
  });
}

template <class S, class Tensor>
void AdamWList(const Tensor* tensors, int64_t n_tensors, int n_threads) noexcept {
  auto* const kernel = ActiveTable<S>().adamw;
  ForPieces<kPiece>(tensors, n_tensors, n_threads, [&](const Tensor& t, int64_t from, int64_t to) {
    kernel(*t.params, t.p + from, t.grad + from, t.m + from, t.v + from, to - from);
  });
}

// A parallel region for every kTogether tensors; bits as of SumSquares.
template <class S, class Tensor>
void SumSquaresList(const Tensor* tensors, int64_t n_tensors, double* sums,
                    int n_threads) noexcept {
  constexpr int64_t kTogether = 16, kPart = 8;
  auto* const kernel = ActiveTable<S>().sum_squares_block;
  for (int64_t first = 0; first < n_tensors; first += kTogether) {
    const int64_t count = n_tensors - first < kTogether ? n_tensors - first : kTogether;
    double partial[kTogether][kSegments] = {};
    const auto run = [&](int64_t task) {
      const Tensor& t = tensors[first + task / (kSegments / kPart)];
      const int64_t s = task % (kSegments / kPart) * kPart;
      SumSegments(kernel, t.x, t.n, s, s + kPart, partial[task / (kSegments / kPart)]);
    };
    int64_t elements = 0;
    for (int64_t i = 0; i < count; ++i) elements += tensors[first + i].n;
    const int64_t tasks = count * (kSegments / kPart);
    // Apart, since a region of one thread allocates its team anew each time.
    if (n_threads <= 1 || elements < kSerialElements) {
      for (int64_t task = 0; task < tasks; ++task) run(task);
    } else {
#pragma omp parallel for schedule(dynamic) num_threads(n_threads)
      for (int64_t task = 0; task < tasks; ++task) run(task);
    }
    for (int64_t i = 0; i < count; ++i) sums[first + i] = Total(partial[i]);
  }
}

}  // namespace
}  // namespace retort::kernels

using namespace retort::kernels;  // NOLINT: this file is the C interface of that namespace

extern "C" {

#define RETORT_DEFINE_OPTIMIZER(S, name)                                                       \
  void retort_adamw_##name(const retort_adamw_params* params, S* p, const S* grad, S* m, S* v, \
                           int64_t n, int n_threads) noexcept {                                \
    AdamW<S>(*params, p, grad, m, v, n, n_threads);                                            \
  }                                                                                            \
  double retort_sum_squares_##name(const S* x, int64_t n, int n_threads) noexcept {            \
    return SumSquares<S>(x, n, n_threads);                                                     \
  }                                                                                            \
  void retort_adamw_list_##name(const retort_adamw_tensor_##name* tensors, int64_t n_tensors,  \
                                int n_threads) noexcept {                                      \
    AdamWList<S>(tensors, n_tensors, n_threads);                                               \
  }                                                                                            \
  void retort_sum_squares_list_##name(const retort_tensor_##name* tensors, int64_t n_tensors,  \
                                      double* sums, int n_threads) noexcept {                  \
    SumSquaresList<S>(tensors, n_tensors, sums, n_threads);                                    \
  }

RETORT_DEFINE_OPTIMIZER(float, f32)
RETORT_DEFINE_OPTIMIZER(double, f64)

void retort_lion_list_f32(const retort_lion_tensor_f32* tensors, int64_t n_tensors,
                          int n_threads) noexcept {
  auto* const kernel = Active().lion;
  ForPieces<kPiece>(tensors, n_tensors, n_threads, [&](const auto& t, int64_t from, int64_t to) {
    kernel(*t.params, t.p + from, t.grad + from, t.m + from, to - from);
  });
}

void retort_sgd_list_f32(const retort_sgd_tensor_f32* tensors, int64_t n_tensors,
                         int n_threads) noexcept {
  auto* const kernel = Active().sgd;
  ForPieces<kPiece>(tensors, n_tensors, n_threads, [&](const auto& t, int64_t from, int64_t to) {
    kernel(*t.params, t.p + from, t.grad + from, t.m == nullptr ? nullptr : t.m + from, to - from);
  });
}

void retort_adamw8_list(const retort_code_books* books, const retort_adamw8_tensor* tensors,
                        int64_t n_tensors, int n_threads) noexcept {
  auto* const kernel = Active().adamw8;
  ForPieces<kPiece>(tensors, n_tensors, n_threads,
                    [&](const auto& t, int64_t from, int64_t to) { kernel(*books, t, from, to); });
}

void retort_mean_squares_f32(const retort_factored_matrix* matrix, float* by_row, float* by_col,
                             int n_threads) noexcept {
  const retort_factored_matrix& a = *matrix;
  auto* const row = Active().square_row;
  Split(a.rows, 1, a.rows * a.cols, n_threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      by_row[i] = row(a.grad + i * a.cols, nullptr, a.cols) / static_cast<float>(a.cols);
    }
  });
  auto* const columns = Active().square_columns;
  Split(a.cols, 16, a.rows * a.cols, n_threads,
        [&](int64_t begin, int64_t end) { columns(a, by_col, begin, end); });
}

double retort_factored_squares_f32(const retort_factored_matrix* matrix, const float* by_row,
                                   const float* by_col, int n_threads) noexcept {
  const retort_factored_matrix& a = *matrix;
  double partial[kSegments] = {};  // of as many parts of the rows, whatever n_threads is
  auto* const row = Active().square_row;
  Split(kSegments, 1, a.rows * a.cols, n_threads, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      for (int64_t i = a.rows * s / kSegments; i < a.rows * (s + 1) / kSegments; ++i) {
        const double factor = by_row[i];
        partial[s] += double{row(a.grad + i * a.cols, by_col, a.cols)} * factor * factor;
      }
    }
  });
  return Total(partial);
}

void retort_factored_update_f32(const retort_factored_matrix* matrix, const float* by_row,
                                const float* by_col, double keep, double scale, float* p,
                                int n_threads) noexcept {
  const retort_factored_matrix& a = *matrix;
  auto* const kernel = Active().factored_update;
  Split(a.rows, 1, a.rows * a.cols, n_threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      kernel(a.grad + i * a.cols, by_col, static_cast<float>(keep),
             static_cast<float>(scale * by_row[i]), p + i * a.cols, a.cols);
    }
  });
}

void retort_make_code_book(int is_signed, retort_code_book* book) noexcept {
  float magnitudes[257] = {};
  int32_t n = 1;  // magnitude 0 is 0
  for (int d = 0; d < 7; ++d) {
    const int cells = is_signed != 0 ? 1 << d : 2 << d;
    for (int c = 0; c < cells; ++c) {
      const double middle = 0.1 + 0.9 * (c + 0.5) / cells;
      magnitudes[n++] = static_cast<float>(middle * pow(10, d - 6));
    }
  }
  const int32_t negative = is_signed != 0 ? n - 1 : 0;
  magnitudes[n++] = 1;
  book->zero = book->most_negative = negative;
  for (int32_t c = 0; c < n; ++c) book->values[negative + c] = magnitudes[c];
  for (int32_t c = 1; c <= negative; ++c) book->values[negative - c] = -magnitudes[c];
  for (int32_t c = 0; c < 256; ++c) {
    book->bounds[c] = c + 1 < n ? (magnitudes[c] + magnitudes[c + 1]) / 2 : INFINITY;
  }
  int32_t least = 0;
  for (uint32_t b = 0; b < RETORT_CODE_BUCKETS; ++b) {
    const uint32_t bits = (kFirstCodeBucket + b) << 16;
    float start;
    memcpy(&start, &bits, sizeof start);
    while (book->bounds[least] < start) ++least;
    book->least[b] = least;
  }
}

}  // extern "C"
