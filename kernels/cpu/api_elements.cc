// C interface: element-wise loops, activations, embedding.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/dispatch.h"
#include "retort/kernels/elementwise.h"

namespace retort::kernels {
namespace {

// Pieces of 1024 elements keep every cut on a whole vector.
constexpr int64_t kPiece = 1024;

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
