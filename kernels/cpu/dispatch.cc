// Chooses the level once from CPUID (and what the system saves of the registers, which
// __builtin_cpu_supports takes into account) and RETORT_KERNELS.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/dispatch.h"

#include <stdlib.h>
#include <string.h>

#include <atomic>

#include "retort/kernels/level.h"
#include "retort/kernels/parallel.h"

namespace retort::kernels {
namespace {

constexpr const char* kNames[] = {"portable", "avx2", "avx512"};

const Tables& TableOf(int level) noexcept {
#if defined(RETORT_KERNELS_X86)
  if (level == RETORT_KERNELS_AVX512) return avx512::kTables;
  if (level == RETORT_KERNELS_AVX2) return avx2::kTables;
#endif
  (void)level;
  return portable::kTables;
}

int DetectLevel() noexcept {
#if defined(RETORT_KERNELS_X86)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
      !__builtin_cpu_supports("f16c")) {
    return RETORT_KERNELS_PORTABLE;
  }
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return avx512 ? RETORT_KERNELS_AVX512 : RETORT_KERNELS_AVX2;
#else
  return RETORT_KERNELS_PORTABLE;
#endif
}

int ChooseLevel() noexcept {
  const int best = DetectLevel();
  const char* wanted = getenv("RETORT_KERNELS");
  for (int level = 0; wanted != nullptr && level < best; ++level) {
    if (strcmp(wanted, kNames[level]) == 0) return level;
  }
  return best;
}

std::atomic<int>& CurrentLevel() noexcept {
  static std::atomic<int> level{ChooseLevel()};
  return level;
}

}  // namespace

const Tables& Active() noexcept { return TableOf(CurrentLevel().load(std::memory_order_relaxed)); }

template <>
const Table<float>& FewRows<float>() noexcept {
  const int level = CurrentLevel().load(std::memory_order_relaxed);
  return TableOf(level < RETORT_KERNELS_AVX2 ? level : RETORT_KERNELS_AVX2).f32;
}

}  // namespace retort::kernels

extern "C" {

int retort_kernels_level(void) noexcept {
  return retort::kernels::CurrentLevel().load(std::memory_order_relaxed);
}
int retort_kernels_level_max(void) noexcept { return retort::kernels::DetectLevel(); }
const char* retort_kernels_level_name(int level) noexcept {
  return level >= 0 && level <= RETORT_KERNELS_AVX512 ? retort::kernels::kNames[level] : "unknown";
}
int retort_kernels_set_level(int level) noexcept {
  const int best = retort::kernels::DetectLevel();
  const int chosen = level < 0 ? 0 : level < best ? level : best;
  retort::kernels::CurrentLevel().store(chosen, std::memory_order_relaxed);
  return chosen;
}

void retort_parallel_for(int64_t n, int n_threads, retort_task_fn fn, void* context) noexcept {
  if (n_threads > n) n_threads = static_cast<int>(n);
  if (n_threads <= 1) {
    for (int64_t i = 0; i < n; ++i) fn(context, i);
    return;
  }
#pragma omp parallel for schedule(dynamic) num_threads(n_threads)
  for (int64_t i = 0; i < n; ++i) fn(context, i);
}

}  // extern "C"
