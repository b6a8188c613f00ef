// What every kernel header shares. The library is raw pointers in, raw pointers out: no
// allocation, no exception, no state but the level chosen at first use (level.h).
// Conventions: strides are in elements; a row stride of 0 stands for "rows are contiguous";
// n_threads <= 1 runs in the calling thread; results never depend on n_threads; inputs and outputs
// may be the same buffer only where the comment says so. _f64 twins serve gradient checks.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_KERNELS_BASE_H_
#define RETORT_KERNELS_BASE_H_

#include <stdint.h>

#ifdef __cplusplus
#define RETORT_KERNELS_BEGIN extern "C" {
#define RETORT_KERNELS_END }
#define RETORT_KERNELS_NOEXCEPT noexcept
#else
#define RETORT_KERNELS_BEGIN
#define RETORT_KERNELS_END
#define RETORT_KERNELS_NOEXCEPT
#endif

#endif  // RETORT_KERNELS_BASE_H_
