// SPDX-License-Identifier: Apache-2.0
#include "core/base/threads.h"

#include <sched.h>

#include <algorithm>
#include <system_error>
#include <thread>
#include <vector>

namespace retort {

int32_t AvailableCores() {
  // The mask may be larger than cpu_set_t: grow until the kernel's fits.
  for (int n = 1024; n <= 1 << 20; n *= 2) {
    cpu_set_t* set = CPU_ALLOC(static_cast<size_t>(n));
    if (set == nullptr) break;
    const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(n));
    const bool ok = sched_getaffinity(0, bytes, set) == 0;
    const int count = ok ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (ok) return std::max(count, 1);
  }
  return 1;
}

int32_t ResolveThreads(int32_t requested) {
  const int32_t cores = AvailableCores();
  return requested > 0 ? std::min(requested, cores * 4) : cores;
}

void ParallelFor(int64_t n, int32_t n_threads, const std::function<void(int64_t, int64_t)>& fn) {
  const int64_t parts = std::clamp<int64_t>(n_threads, 1, std::max<int64_t>(n, 1));
  if (parts == 1) {
    if (n > 0) fn(0, n);
    return;
  }
  std::vector<std::jthread> threads;
  threads.reserve(static_cast<size_t>(parts) - 1);
  for (int64_t i = 1; i < parts; ++i) {
    threads.emplace_back([&fn, n, parts, i] { fn(n * i / parts, n * (i + 1) / parts); });
  }
  fn(0, n / parts);
}

}  // namespace retort
