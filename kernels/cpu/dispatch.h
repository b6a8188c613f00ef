// The table in use, and how the C interface splits work over threads.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <omp.h>

#include "kernels/cpu/table.h"

namespace retort::kernels {

const Tables& Active() noexcept;

template <class S>
const Table<S>& ActiveTable() noexcept;
template <>
inline const Table<float>& ActiveTable<float>() noexcept {
  return Active().f32;
}
template <>
inline const Table<double>& ActiveTable<double>() noexcept {
  return portable::kTableF64;
}

// Loops bound by memory run on 256-bit vectors even where 512-bit ones exist: same bits, and a
// skinny GEMM of kFewRows rows was measured 1.4 times faster (Zen 4).
template <class S>
const Table<S>& FewRows() noexcept {
  return ActiveTable<S>();
}
template <>
const Table<float>& FewRows<float>() noexcept;

inline int64_t OrElse(int64_t stride, int64_t fallback) { return stride != 0 ? stride : fallback; }

// Below this many touched elements a parallel region costs more than it gives.
constexpr int64_t kSerialElements = 16384;

// Calls range(begin, end) over [0, n) cut at multiples of `granule`, one piece per thread;
// `elements` is what the whole range touches.
template <class Range>
void Split(int64_t n, int64_t granule, int64_t elements, int n_threads, Range range) {
  const int64_t units = (n + granule - 1) / granule;
  if (n_threads > units) n_threads = static_cast<int>(units);
  if (n_threads <= 1 || elements < kSerialElements) {
    if (n > 0) range(int64_t{0}, n);
    return;
  }
#pragma omp parallel num_threads(n_threads)
  {
    const int64_t t = omp_get_thread_num(), threads = omp_get_num_threads();
    const int64_t begin = units * t / threads * granule, end = units * (t + 1) / threads * granule;
    if (begin < n) range(begin, end < n ? end : n);
  }
}

}  // namespace retort::kernels
