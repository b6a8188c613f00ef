// C interface: products with packed matrices.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/packed_layout.h"
#include "retort/kernels/level.h"

namespace retort::kernels {
namespace {

// Up to here rows of f32 stream past x; beyond, panels win.
constexpr int64_t kFewFloatRows = 16;

const PackedTable& ActivePacked() noexcept {
#if defined(RETORT_KERNELS_X86)
  const int level = retort_kernels_level();
  if (level == RETORT_KERNELS_AVX512) return avx512::kPacked;
  if (level == RETORT_KERNELS_AVX2) return avx2::kPacked;
#endif
  return portable::kPacked;
}

PackedDot ActiveDot() noexcept {
#if defined(RETORT_KERNELS_X86)
  const int level = retort_kernels_level();
  if (level == RETORT_KERNELS_AVX512 && __builtin_cpu_supports("avx512vnni")) {
    return avx512vnni::PackedDotGroups;
  }
  if (level >= RETORT_KERNELS_AVX2) return avx2::PackedDotGroups;
#endif
  return portable::PackedDotGroups;
}

bool RoundsX(const retort_packed_matrix& w) {
  return w.type >= RETORT_PACKED_Q8_0 && w.type != RETORT_PACKED_NF4 && w.exact == 0;
}

// A few rows of f32 are the skinny GEMM's.
void FewFloatRows(const PackedArgs& a, int n_threads) {
  const retort_skinny_gemm_shape shape = {.m = a.m,
                                          .o = a.w.rows,
                                          .i = a.w.cols,
                                          .x_stride = a.x_stride,
                                          .w_stride = a.w.cols,
                                          .y_stride = a.y_stride};
  retort_skinny_gemm_f32(&shape, a.x, reinterpret_cast<const float*>(a.w.codes), a.bias, a.y,
                         n_threads);
}

PackedArgs ArgsOf(const retort_packed_matrix& w, const float* x, int64_t m, int64_t x_stride,
                  float* y, int64_t y_stride) {
  return {.w = ViewOf(w), .x = x, .y = y, .m = m, .x_stride = x_stride, .y_stride = y_stride};
}

}  // namespace
}  // namespace retort::kernels

using namespace retort::kernels;  // NOLINT: this file is the C interface of that namespace

extern "C" {

void retort_packed_gemm_f32(const retort_packed_matrix* w, const float* x, int64_t m,
                            int64_t x_stride, const float* bias, float* y, int64_t y_stride,
                            int n_threads) noexcept {
  if (m <= 0) return;
  PackedArgs a = ArgsOf(*w, x, m, OrElse(x_stride, w->cols), y, OrElse(y_stride, w->rows));
  a.bias = bias;
  if (w->type == RETORT_PACKED_F32 && m <= kFewFloatRows) return FewFloatRows(a, n_threads);
  const int64_t work = m * w->rows * w->cols;
  if (RoundsX(*w)) {
    const PackedDot dot = ActiveDot();
    Split((w->rows + kGroup - 1) / kGroup, 1, work, n_threads,
          [&](int64_t begin, int64_t end) { dot(a, begin, end); });
    return;
  }
  const PackedTable& table = ActivePacked();
  const bool halves = w->type == RETORT_PACKED_F16 || w->type == RETORT_PACKED_BF16;
  auto* const kernel = halves && m <= table.half_rows ? table.half_outputs : table.panel_outputs;
  Split(w->rows, kGroup, work, n_threads,
        [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
}

void retort_packed_gemm_transposed_f32(const retort_packed_matrix* w, const float* dy, int64_t m,
                                       int64_t dy_stride, int accumulate, float* dx,
                                       int64_t dx_stride, int n_threads) noexcept {
  if (m <= 0) return;
  PackedArgs a = ArgsOf(*w, dy, m, OrElse(dy_stride, w->rows), dx, OrElse(dx_stride, w->cols));
  a.accumulate = accumulate != 0;
  auto* const kernel = ActivePacked().panel_columns;
  Split(w->cols, kPanelColumns, m * w->rows * w->cols, n_threads,
        [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
}

}  // extern "C"
