// C interface: norms and rotary embedding.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/dispatch.h"

namespace retort::kernels {
namespace {

template <class S>
void RmsNorm(NormArgs<S> a, int n_threads) noexcept {
  const int64_t width = a.shape.groups * a.shape.cols;
  a.x_stride = OrElse(a.x_stride, width);
  a.y_stride = OrElse(a.y_stride, width);
  auto* const kernel = ActiveTable<S>().rms_norm;
  Split(a.shape.rows, 1, a.shape.rows * width, n_threads,
        [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
}

template <class S>
void AddRmsNorm(const NormArgs<S>& a, int n_threads) noexcept {
  auto* const kernel = ActiveTable<S>().add_rms_norm;
  Split(a.shape.rows, 1, 2 * a.shape.rows * a.shape.cols, n_threads,
        [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
}

template <class S>
void RmsNormBackward(NormArgs<S> a, int n_threads) noexcept {
  const int64_t width = a.shape.groups * a.shape.cols;
  a.x_stride = OrElse(a.x_stride, width);
  a.dy_stride = OrElse(a.dy_stride, width);
  a.dx_stride = OrElse(a.dx_stride, width);
  const Table<S>& table = ActiveTable<S>();
  if (a.dw != nullptr) {  // first: dx may be dy
    Split(a.shape.cols, 16, a.shape.rows * width, n_threads,
          [&](int64_t begin, int64_t end) { table.rms_norm_dw_columns(a, begin, end); });
  }
  Split(a.shape.rows, 1, a.shape.rows * width, n_threads,
        [&](int64_t begin, int64_t end) { table.rms_norm_dx(a, begin, end); });
}

// Chunks of rows in one pass; a chunk's work is that of its rows, so whole ones go to a thread.
template <class S>
void RmsNormBackwardFused(NormArgs<S> a, S* partial, int n_threads) noexcept {
  const int64_t width = a.shape.groups * a.shape.cols, vectors = a.shape.rows * a.shape.groups;
  a.x_stride = OrElse(a.x_stride, width);
  a.dy_stride = OrElse(a.dy_stride, width);
  a.dx_stride = OrElse(a.dx_stride, width);
  const Table<S>& table = ActiveTable<S>();
  Split((vectors + kNormChunk - 1) / kNormChunk, 1, a.shape.rows * width, n_threads,
        [&](int64_t begin, int64_t end) { table.rms_norm_chunks(a, partial, begin, end); });
  if (a.dw == nullptr) return;
  Split(a.shape.cols, 16, a.shape.rows * width / kNormChunk, n_threads,
        [&](int64_t begin, int64_t end) { table.rms_norm_reduce_columns(a, partial, begin, end); });
}

template <class S>
int64_t NormScratch(const retort_norm_shape& shape) {
  const int64_t chunks = (shape.rows * shape.groups + kNormChunk - 1) / kNormChunk;
  return chunks * shape.cols * static_cast<int64_t>(sizeof(S));
}

template <class S>
void Rope(RopeArgs<S> a, int n_threads) noexcept {
  const int64_t width = a.shape.n_heads * a.shape.head_dim;
  a.x_stride = OrElse(a.x_stride, width);
  a.y_stride = OrElse(a.y_stride, width);
  auto* const kernel = ActiveTable<S>().rope;
  Split(a.shape.rows, 1, a.shape.rows * width, n_threads,
        [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
}

}  // namespace
}  // namespace retort::kernels

using namespace retort::kernels;  // NOLINT: this file is the C interface of that namespace

extern "C" {

#define RETORT_DEFINE(S, name)                                                                    \
  void retort_rms_norm_##name(const retort_norm_shape* shape, const S* x, int64_t x_stride,       \
                              const S* w, S* y, int64_t y_stride, S* rstd,                        \
                              int n_threads) noexcept {                                           \
    RmsNorm<S>({.shape = *shape,                                                                  \
                .x = x,                                                                           \
                .w = w,                                                                           \
                .y = y,                                                                           \
                .rstd = rstd,                                                                     \
                .x_stride = x_stride,                                                             \
                .y_stride = y_stride},                                                            \
               n_threads);                                                                        \
  }                                                                                               \
  void retort_add_rms_norm_##name(const retort_norm_shape* shape, const S* a, const S* b,         \
                                  const S* w, S* sum, S* y, S* rstd, int n_threads) noexcept {    \
    AddRmsNorm<S>({.shape = *shape, .x = a, .b = b, .sum = sum, .w = w, .y = y, .rstd = rstd},    \
                  n_threads);                                                                     \
  }                                                                                               \
  void retort_rms_norm_backward_##name(const retort_norm_shape* shape, const S* dy,               \
                                       int64_t dy_stride, const S* x, int64_t x_stride,           \
                                       const S* w, const S* rstd, S* dx, int64_t dx_stride,       \
                                       int accumulate, S* dw, int n_threads) noexcept {           \
    RmsNormBackward<S>({.shape = *shape,                                                          \
                        .x = x,                                                                   \
                        .w = w,                                                                   \
                        .rstd = const_cast<S*>(rstd),                                             \
                        .dy = dy,                                                                 \
                        .dx = dx,                                                                 \
                        .dw = dw,                                                                 \
                        .x_stride = x_stride,                                                     \
                        .dy_stride = dy_stride,                                                   \
                        .dx_stride = dx_stride,                                                   \
                        .accumulate = accumulate != 0},                                           \
                       n_threads);                                                                \
  }                                                                                               \
  int64_t retort_rms_norm_scratch_##name(const retort_norm_shape* shape) noexcept {               \
    return NormScratch<S>(*shape);                                                                \
  }                                                                                               \
  void retort_rms_norm_backward_fused_##name(                                                     \
      const retort_norm_shape* shape, const S* dy, int64_t dy_stride, const S* x,                 \
      int64_t x_stride, const S* w, const S* rstd, S* dx, int64_t dx_stride, int accumulate,      \
      S* dw, void* scratch, int n_threads) noexcept {                                             \
    RmsNormBackwardFused<S>({.shape = *shape,                                                     \
                             .x = x,                                                              \
                             .w = w,                                                              \
                             .rstd = const_cast<S*>(rstd),                                        \
                             .dy = dy,                                                            \
                             .dx = dx,                                                            \
                             .dw = dw,                                                            \
                             .x_stride = x_stride,                                                \
                             .dy_stride = dy_stride,                                              \
                             .dx_stride = dx_stride,                                              \
                             .accumulate = accumulate != 0},                                      \
                            static_cast<S*>(scratch), n_threads);                                 \
  }                                                                                               \
  void retort_rope_##name(const retort_rope_shape* shape, const S* x, int64_t x_stride,           \
                          const S* cos_table, const S* sin_table, const int32_t* positions, S* y, \
                          int64_t y_stride, int n_threads) noexcept {                             \
    Rope<S>({.shape = *shape,                                                                     \
             .x = x,                                                                              \
             .y = y,                                                                              \
             .cos_table = cos_table,                                                              \
             .sin_table = sin_table,                                                              \
             .positions = positions,                                                              \
             .x_stride = x_stride,                                                                \
             .y_stride = y_stride},                                                               \
            n_threads);                                                                           \
  }

RETORT_DEFINE(float, f32)
RETORT_DEFINE(double, f64)

}  // extern "C"
