// C interface: skinny GEMM, rows of logits.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/dispatch.h"

namespace retort::kernels {
namespace {

template <class S>
void SkinnyGemm(GemmArgs<S> a, int n_threads) noexcept {
  retort_skinny_gemm_shape& s = a.shape;
  s.x_stride = OrElse(s.x_stride, s.i);
  s.w_stride = OrElse(s.w_stride, s.i);
  s.y_stride = OrElse(s.y_stride, s.o);
  if (s.m <= 0) return;
  auto* const kernel = s.m <= kFewRows ? FewRows<S>().gemm_outputs : ActiveTable<S>().gemm_outputs;
  Split(s.o, 16, s.m * s.o * s.i, n_threads,
        [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
}

template <class S>
void RowReduction(void (*kernel)(const RowsArgs<S>&, int64_t, int64_t), RowsArgs<S> a, int64_t rows,
                  int n_threads) noexcept {
  a.stride = OrElse(a.stride, a.cols);
  Split(rows, 1, rows * a.cols, n_threads,
        [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
}

template <class S>
void CrossEntropy(CrossEntropyArgs<S> a, int n_threads) noexcept {
  a.shape.stride = OrElse(a.shape.stride, a.shape.cols);
  auto* const kernel = ActiveTable<S>().cross_entropy;
  Split(a.shape.rows, 1, a.shape.rows * a.shape.cols, n_threads,
        [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
}

template <class S>
void LogPBackward(LogPBackwardArgs<S> a, int n_threads) noexcept {
  a.shape.stride = OrElse(a.shape.stride, a.shape.cols);
  auto* const kernel = ActiveTable<S>().row_logp_backward;
  Split(a.shape.rows, 1, a.shape.rows * a.shape.cols, n_threads,
        [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
}

template <class S>
void KdRows(KdArgs<S> a, int n_threads) noexcept {
  a.shape.student_stride = OrElse(a.shape.student_stride, a.shape.cols);
  a.shape.teacher_stride = OrElse(a.shape.teacher_stride, a.shape.cols);
  auto* const kernel = ActiveTable<S>().kd_rows;
  Split(a.shape.rows, 1, 4 * a.shape.rows * a.shape.cols, n_threads,
        [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
}

template <class S>
void SoftmaxMix(SoftmaxMixArgs<S> a, int64_t rows, int n_threads) noexcept {
  a.stride = OrElse(a.stride, a.cols);
  auto* const kernel = ActiveTable<S>().softmax_mix;
  Split(rows, 1, 2 * rows * a.cols, n_threads,
        [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
}

}  // namespace
}  // namespace retort::kernels

using namespace retort::kernels;  // NOLINT: this file is the C interface of that namespace

extern "C" {

double retort_exp_blocks_f32(const float* x, int64_t cols, double scale, double max, float* p,
                             double* block_sums) noexcept {
  return Active().f32.exp_blocks(x, cols, scale, max, p, block_sums);
}

void retort_logit_bins_f32(const float* x, const float* p, int64_t cols, float max,
                           float bins_per_unit, int64_t n_bins, int64_t* counts,
                           double* masses) noexcept {
  Active().logit_bins(
      {.x = x, .cols = cols, .max = max, .bins_per_unit = bins_per_unit, .n_bins = n_bins}, p,
      counts, masses);
}

int64_t retort_logit_bin_ids_f32(const float* x, int64_t cols, float max, float bins_per_unit,
                                 int64_t n_bins, int64_t bin, int32_t* ids) noexcept {
  return Active().logit_bin_ids(
      {.x = x, .cols = cols, .max = max, .bins_per_unit = bins_per_unit, .n_bins = n_bins}, bin,
      ids);
}

#define RETORT_DEFINE(S, name)                                                                    \
  void retort_skinny_gemm_##name(const retort_skinny_gemm_shape* shape, const S* x, const S* w,   \
                                 const S* bias, S* y, int n_threads) noexcept {                   \
    SkinnyGemm<S>({.shape = *shape, .x = x, .w = w, .bias = bias, .y = y}, n_threads);            \
  }                                                                                               \
  void retort_row_logsumexp_##name(const S* x, int64_t x_stride, int64_t rows, int64_t cols,      \
                                   double scale, S* lse, int n_threads) noexcept {                \
    RowReduction<S>(ActiveTable<S>().row_logsumexp,                                               \
                    {.x = x, .stride = x_stride, .cols = cols, .scale = scale, .out = lse}, rows, \
                    n_threads);                                                                   \
  }                                                                                               \
  void retort_row_argmax_##name(const S* x, int64_t x_stride, int64_t rows, int64_t cols,         \
                                int32_t* index, S* max, int n_threads) noexcept {                 \
    RowReduction<S>(ActiveTable<S>().row_argmax,                                                  \
                    {.x = x, .stride = x_stride, .cols = cols, .arg = index, .out = max}, rows,   \
                    n_threads);                                                                   \
  }                                                                                               \
  void retort_row_logp_##name(const S* x, int64_t x_stride, int64_t rows, int64_t cols,           \
                              double scale, const int64_t* index, S* logp, S* entropy,            \
                              int n_threads) noexcept {                                           \
    RowReduction<S>(ActiveTable<S>().row_logp,                                                    \
                    {.x = x,                                                                      \
                     .stride = x_stride,                                                          \
                     .cols = cols,                                                                \
                     .scale = scale,                                                              \
                     .index = index,                                                              \
                     .out = logp,                                                                 \
                     .entropy = entropy},                                                         \
                    rows, n_threads);                                                             \
  }                                                                                               \
  void retort_row_logp_backward_##name(                                                           \
      const retort_logp_backward_shape* shape, S* x, const int64_t* index, const S* logp,         \
      const S* entropy, const S* d_logp, const S* d_entropy, int n_threads) noexcept {            \
    LogPBackward<S>({.shape = *shape,                                                             \
                     .x = x,                                                                      \
                     .index = index,                                                              \
                     .logp = logp,                                                                \
                     .entropy = entropy,                                                          \
                     .d_logp = d_logp,                                                            \
                     .d_entropy = d_entropy},                                                     \
                    n_threads);                                                                   \
  }                                                                                               \
  void retort_cross_entropy_##name(const retort_cross_entropy_shape* shape, S* logits,            \
                                   const int64_t* labels, const S* weight, S* loss, S* nll,       \
                                   S* entropy, int n_threads) noexcept {                          \
    CrossEntropy<S>({.shape = *shape,                                                             \
                     .logits = logits,                                                            \
                     .labels = labels,                                                            \
                     .weight = weight,                                                            \
                     .loss = loss,                                                                \
                     .nll = nll,                                                                  \
                     .entropy = entropy},                                                         \
                    n_threads);                                                                   \
  }                                                                                               \
  void retort_kd_rows_##name(const retort_kd_shape* shape, S* student, const S* teacher,          \
                             const int64_t* labels, const S* weight, S* divergence, S* nll,       \
                             S* teacher_entropy, int n_threads) noexcept {                        \
    KdRows<S>({.shape = *shape,                                                                   \
               .student = student,                                                                \
               .teacher = teacher,                                                                \
               .labels = labels,                                                                  \
               .weight = weight,                                                                  \
               .divergence = divergence,                                                          \
               .nll = nll,                                                                        \
               .teacher_entropy = teacher_entropy},                                               \
              n_threads);                                                                         \
  }                                                                                               \
  void retort_softmax_mix_##name(S* x, int64_t x_stride, int64_t rows, int64_t cols,              \
                                 double temperature, const S* lse_t, const S* share_t,            \
                                 const S* lse, const S* share, int n_threads) noexcept {          \
    SoftmaxMix<S>({.x = x,                                                                        \
                   .stride = x_stride,                                                            \
                   .cols = cols,                                                                  \
                   .temperature = temperature,                                                    \
                   .lse_t = lse_t,                                                                \
                   .share_t = share_t,                                                            \
                   .lse = lse,                                                                    \
                   .share = share},                                                               \
                  rows, n_threads);                                                               \
  }

RETORT_DEFINE(float, f32)
RETORT_DEFINE(double, f64)

}  // extern "C"
