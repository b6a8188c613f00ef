// The kernels' thread pool (OpenMP's, shared with LibTorch) for callers that have their own loop.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_KERNELS_PARALLEL_H_
#define RETORT_KERNELS_PARALLEL_H_

#include "retort/kernels/base.h"

RETORT_KERNELS_BEGIN

typedef void (*retort_task_fn)(void* context, int64_t index);

// Calls fn(context, i) once for each i in [0, n), in any order, from up to n_threads threads;
// returns when all are done. fn must not throw.
void retort_parallel_for(int64_t n, int n_threads, retort_task_fn fn,
                         void* context) RETORT_KERNELS_NOEXCEPT;

RETORT_KERNELS_END
#endif  // RETORT_KERNELS_PARALLEL_H_
