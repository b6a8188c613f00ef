// C interface: skinny GEMM, attention, rows of logits.
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

// A task is one block of rows of one kv head of one sequence.
void CachedAttention(const retort_attention_shape& shape,
                     const retort_attention_sequence_f32* sequences, int64_t n_sequences,
                     int n_threads) noexcept {
  const int64_t group = shape.n_heads / shape.n_kv_heads;
  const auto blocks_of = [&](int64_t s) {
    return (sequences[s].n_q * group + kAttentionRows - 1) / kAttentionRows;
  };
  int64_t n_tasks = 0, work = 0;
  for (int64_t s = 0; s < n_sequences; ++s) {
    n_tasks += blocks_of(s) * shape.n_kv_heads;
    work += sequences[s].n_q * (sequences[s].n_past + 1) * shape.n_heads * shape.head_dim;
  }
  auto* const kernel = Active().attention_block;
  const auto run = [&](int64_t task) {
    int64_t s = 0;
    for (; task >= blocks_of(s) * shape.n_kv_heads; ++s) task -= blocks_of(s) * shape.n_kv_heads;
    kernel(shape, sequences[s], task / blocks_of(s), task % blocks_of(s));
  };
  if (n_threads <= 1 || n_tasks <= 1 || work < kSerialElements) {
    for (int64_t task = 0; task < n_tasks; ++task) run(task);
    return;
  }
#pragma omp parallel for schedule(dynamic) num_threads(n_threads)
  for (int64_t task = 0; task < n_tasks; ++task) run(task);
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
void KdRows(KdArgs<S> a, int n_threads) noexcept {
  a.shape.student_stride = OrElse(a.shape.student_stride, a.shape.cols);
  a.shape.teacher_stride = OrElse(a.shape.teacher_stride, a.shape.cols);
  auto* const kernel = ActiveTable<S>().kd_rows;
  Split(a.shape.rows, 1, 4 * a.shape.rows * a.shape.cols, n_threads,
        [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
}

}  // namespace
}  // namespace retort::kernels

using namespace retort::kernels;  // NOLINT: this file is the C interface of that namespace

extern "C" {

void retort_cached_attention_f32(const retort_attention_shape* shape,
                                 const retort_attention_sequence_f32* sequences,
                                 int64_t n_sequences, int n_threads) noexcept {
  CachedAttention(*shape, sequences, n_sequences, n_threads);
}

double retort_exp_blocks_f32(const float* x, int64_t cols, double scale, double max, float* p,
                             double* block_sums) noexcept {
  return Active().f32.exp_blocks(x, cols, scale, max, p, block_sums);
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
                             int n_threads) noexcept {                                            \
    KdRows<S>({.shape = *shape,                                                                   \
               .student = student,                                                                \
               .teacher = teacher,                                                                \
               .labels = labels,                                                                  \
               .weight = weight,                                                                  \
               .divergence = divergence,                                                          \
               .nll = nll},                                                                       \
              n_threads);                                                                         \
  }

RETORT_DEFINE(float, f32)
RETORT_DEFINE(double, f64)

}  // extern "C"
