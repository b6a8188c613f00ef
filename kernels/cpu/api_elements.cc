// C interface: element-wise loops, activations, embedding, optimizer.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/dispatch.h"
#include "retort/kernels/elementwise.h"

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

// Pieces of all tensors in a row, cut evenly.
template <class S, class Tensor>
void AdamWList(const Tensor* tensors, int64_t n_tensors, int n_threads) noexcept {
  const auto pieces = [](const Tensor& t) { return (t.n + kPiece - 1) / kPiece; };
  int64_t all = 0;
  for (int64_t i = 0; i < n_tensors; ++i) all += pieces(tensors[i]);
  auto* const kernel = ActiveTable<S>().adamw;
  Split(all, 1, all * kPiece, n_threads, [&](int64_t begin, int64_t end) {
    int64_t first = 0;  // of tensor i
    for (int64_t i = 0; i < n_tensors && first < end; first += pieces(tensors[i++])) {
      const Tensor& t = tensors[i];
      const int64_t from = begin > first ? (begin - first) * kPiece : 0;
      const int64_t to = (end - first) * kPiece < t.n ? (end - first) * kPiece : t.n;
      if (from < to)
        kernel(*t.params, t.p + from, t.grad + from, t.m + from, t.v + from, to - from);
    }
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

template <class S>
void Gated(GatedArgs<S> a, bool backward, int n_threads) noexcept {
  a.shape.in_stride = OrElse(a.shape.in_stride, a.shape.cols);
  a.shape.out_stride = OrElse(a.shape.out_stride, a.shape.cols);
  const Table<S>& table = ActiveTable<S>();
  auto* const kernel = backward ? table.gated_backward : table.gated;
  Split(a.shape.rows, 1, a.shape.rows * a.shape.cols * 4, n_threads,
        [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
}

template <class S>
using ColumnKernel = void (*)(const ColumnArgs<S>&, int64_t, int64_t);

template <class S>
void Rows(ColumnKernel<S> kernel, ColumnArgs<S> a, int n_threads) noexcept {
  a.stride = OrElse(a.stride, a.cols);
  Split(a.rows, 1, a.rows * a.cols, n_threads,
        [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
}
template <class S>
void Columns(ColumnKernel<S> kernel, ColumnArgs<S> a, int n_threads) noexcept {
  a.stride = OrElse(a.stride, a.cols);
  Split(a.cols, 16, a.rows * a.cols, n_threads,
        [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
}

}  // namespace
}  // namespace retort::kernels

using namespace retort::kernels;  // NOLINT: this file is the C interface of that namespace

extern "C" {

#define RETORT_DEFINE_ELEMENTS(S, name)                                                           \
  void retort_add_##name(const S* a, const S* b, S* y, int64_t n, int n_threads) noexcept {       \
    auto* const kernel = ActiveTable<S>().add;                                                    \
    Split(n, kPiece, n, n_threads,                                                                \
          [&](int64_t i, int64_t end) { kernel(a + i, b + i, y + i, end - i); });                 \
  }                                                                                               \
  void retort_mul_##name(const S* a, const S* b, S* y, int64_t n, int n_threads) noexcept {       \
    auto* const kernel = ActiveTable<S>().mul;                                                    \
    Split(n, kPiece, n, n_threads,                                                                \
          [&](int64_t i, int64_t end) { kernel(a + i, b + i, y + i, end - i); });                 \
  }                                                                                               \
  void retort_scale_##name(const S* x, double scale, S* y, int64_t n, int n_threads) noexcept {   \
    auto* const kernel = ActiveTable<S>().scale;                                                  \
    Split(n, kPiece, n, n_threads,                                                                \
          [&](int64_t i, int64_t end) { kernel(x + i, static_cast<S>(scale), y + i, end - i); }); \
  }                                                                                               \
  void retort_axpy_##name(const S* x, double scale, S* y, int64_t n, int n_threads) noexcept {    \
    auto* const kernel = ActiveTable<S>().axpy;                                                   \
    Split(n, kPiece, n, n_threads,                                                                \
          [&](int64_t i, int64_t end) { kernel(x + i, static_cast<S>(scale), y + i, end - i); }); \
  }                                                                                               \
  void retort_activation_##name(int kind, const S* x, S* y, int64_t n, int n_threads) noexcept {  \
    auto* const kernel = ActiveTable<S>().activation;                                             \
    Split(n, kPiece, 4 * n, n_threads,                                                            \
          [&](int64_t i, int64_t end) { kernel(kind, x + i, y + i, end - i); });                  \
  }                                                                                               \
  void retort_activation_backward_##name(int kind, const S* x, const S* dy, S* dx, int64_t n,     \
                                         int n_threads) noexcept {                                \
    auto* const kernel = ActiveTable<S>().activation_backward;                                    \
    Split(n, kPiece, 4 * n, n_threads,                                                            \
          [&](int64_t i, int64_t end) { kernel(kind, x + i, dy + i, dx + i, end - i); });         \
  }                                                                                               \
  void retort_adamw_##name(const retort_adamw_params* params, S* p, const S* grad, S* m, S* v,    \
                           int64_t n, int n_threads) noexcept {                                   \
    AdamW<S>(*params, p, grad, m, v, n, n_threads);                                               \
  }                                                                                               \
  double retort_sum_squares_##name(const S* x, int64_t n, int n_threads) noexcept {               \
    return SumSquares<S>(x, n, n_threads);                                                        \
  }                                                                                               \
  void retort_adamw_list_##name(const retort_adamw_tensor_##name* tensors, int64_t n_tensors,     \
                                int n_threads) noexcept {                                         \
    AdamWList<S>(tensors, n_tensors, n_threads);                                                  \
  }                                                                                               \
  void retort_sum_squares_list_##name(const retort_tensor_##name* tensors, int64_t n_tensors,     \
                                      double* sums, int n_threads) noexcept {                     \
    SumSquaresList<S>(tensors, n_tensors, sums, n_threads);                                       \
  }

#define RETORT_DEFINE_ROWS(S, name)                                                               \
  void retort_gated_##name(const retort_gated_shape* shape, const S* gate, const S* up, S* y,     \
                           int n_threads) noexcept {                                              \
    Gated<S>({.shape = *shape, .gate = gate, .up = up, .y = y}, false, n_threads);                \
  }                                                                                               \
  void retort_gated_backward_##name(const retort_gated_shape* shape, const S* gate, const S* up,  \
                                    const S* dy, S* d_gate, S* d_up, int n_threads) noexcept {    \
    Gated<S>({.shape = *shape, .gate = gate, .up = up, .dy = dy, .d_gate = d_gate, .d_up = d_up}, \
             true, n_threads);                                                                    \
  }                                                                                               \
  void retort_gated_backward_again_##name(const retort_gated_shape* shape, const S* gate,         \
                                          const S* up, const S* dy, S* d_gate, S* d_up,           \
                                          S* product, int n_threads) noexcept {                   \
    Gated<S>({.shape = *shape,                                                                    \
              .gate = gate,                                                                       \
              .up = up,                                                                           \
              .dy = dy,                                                                           \
              .y = product,                                                                       \
              .d_gate = d_gate,                                                                   \
              .d_up = d_up},                                                                      \
             true, n_threads);                                                                    \
  }                                                                                               \
  void retort_add_bias_##name(S* y, int64_t y_stride, const S* bias, int64_t rows, int64_t cols,  \
                              int n_threads) noexcept {                                           \
    Rows<S>(ActiveTable<S>().add_bias,                                                            \
            {.in = bias, .out = y, .rows = rows, .cols = cols, .stride = y_stride}, n_threads);   \
  }                                                                                               \
  void retort_col_sum_##name(const S* x, int64_t x_stride, S* out, int64_t rows, int64_t cols,    \
                             int n_threads) noexcept {                                            \
    Columns<S>(ActiveTable<S>().col_sum_columns,                                                  \
               {.in = x, .out = out, .rows = rows, .cols = cols, .stride = x_stride}, n_threads); \
  }                                                                                               \
  void retort_embed_##name(const S* table, const int32_t* ids, double scale, S* y, int64_t rows,  \
                           int64_t cols, int n_threads) noexcept {                                \
    Rows<S>(ActiveTable<S>().embed,                                                               \
            {.in = table,                                                                         \
             .out = y,                                                                            \
             .ids = ids,                                                                          \
             .scale = static_cast<S>(scale),                                                      \
             .rows = rows,                                                                        \
             .cols = cols},                                                                       \
            n_threads);                                                                           \
  }                                                                                               \
  void retort_embed_backward_##name(const S* dy, const int32_t* ids, double scale, S* d_table,    \
                                    int64_t rows, int64_t cols, int n_threads) noexcept {         \
    Columns<S>(ActiveTable<S>().embed_backward_columns,                                           \
               {.in = dy,                                                                         \
                .out = d_table,                                                                   \
                .ids = ids,                                                                       \
                .scale = static_cast<S>(scale),                                                   \
                .rows = rows,                                                                     \
                .cols = cols},                                                                    \
               n_threads);                                                                        \
  }

RETORT_DEFINE_ELEMENTS(float, f32)
RETORT_DEFINE_ELEMENTS(double, f64)
RETORT_DEFINE_ROWS(float, f32)
RETORT_DEFINE_ROWS(double, f64)

}  // extern "C"
