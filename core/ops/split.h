// Splits a loop of an op over threads, so that each piece of the result is worked out by one thread
// in one order: the numbers don't depend on the number of threads.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

#include "retort/kernels/parallel.h"

namespace retort::ops {

// Calls fn(begin, end) on pieces of [0, n), from up to n_threads threads. fn must not throw.
// `elements`: what the whole loop touches; few are not worth a parallel region.
template <class Fn>
void Split(int64_t n, int64_t elements, int n_threads, Fn&& fn) {
  constexpr int64_t kSerialElements = 16384;
  struct Job {
    Fn& fn;
    int64_t n, pieces;
  } job{fn, n, elements < kSerialElements ? 1 : std::min<int64_t>(n_threads, n)};
  if (job.pieces <= 1) {
    if (n > 0) fn(int64_t{0}, n);
    return;
  }
  retort_parallel_for(
      job.pieces, n_threads,
      [](void* context, int64_t piece) {
        const Job& j = *static_cast<Job*>(context);
        j.fn(j.n * piece / j.pieces, j.n * (piece + 1) / j.pieces);
      },
      &job);
}

}  // namespace retort::ops
