// C interface: blocked products.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/dispatch.h"
#include "retort/kernels/level.h"

using namespace retort::kernels;  // NOLINT: this file is the C interface of that namespace

namespace {

constexpr int64_t kGranule = 32;  // rows or columns: whole strips at every level

// Whether threads share the columns. Sharing rows has each of them lay out all of b, sharing
// columns copy all of a; few rows or columns can't be cut well.
bool ShareColumns(const retort_gemm_shape& shape) {
  if (shape.m <= kBlockedFewRows) return true;
  return shape.n > kBlockedFewRows && shape.n >= shape.m;
}

}  // namespace

extern "C" {

void retort_gemm_f32(const retort_gemm_shape* shape, const retort_gemm_term* terms, float* c,
                     int n_threads) noexcept {
  const BlockedArgs args = {.shape = *shape, .terms = terms, .c = c};
  auto* const kernel = Active().blocked_gemm;
  int64_t depth = 0;
  for (int32_t t = 0; t < shape->n_terms; ++t) depth += terms[t].k;
  const int64_t work = shape->m * shape->n * depth;
  if (ShareColumns(*shape)) {
    return Split(shape->n, kGranule, work, n_threads, [&](int64_t begin, int64_t end) {
      kernel(args, {.m = 0, .m_end = args.shape.m, .n = begin, .n_end = end});
    });
  }
  Split(shape->m, kGranule, work, n_threads, [&](int64_t begin, int64_t end) {
    kernel(args, {.m = begin, .m_end = end, .n = 0, .n_end = args.shape.n});
  });
}

int retort_gemm_is_fast(void) noexcept {
#if defined(RETORT_KERNELS_X86)
  return retort_kernels_level() == RETORT_KERNELS_AVX512 && !__builtin_cpu_is("intel") ? 1 : 0;
#else
  return 0;
#endif
}

}  // extern "C"
