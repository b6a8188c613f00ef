// Which instruction set the kernels use: chosen once from the processor. The environment variable
// RETORT_KERNELS (portable, avx2, avx512) can lower the level, never raise it.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_KERNELS_LEVEL_H_
#define RETORT_KERNELS_LEVEL_H_

#include "retort/kernels/base.h"

RETORT_KERNELS_BEGIN

enum {
  RETORT_KERNELS_PORTABLE = 0,
  RETORT_KERNELS_AVX2 = 1,    // AVX2, FMA
  RETORT_KERNELS_AVX512 = 2,  // F, BW, DQ, VL
};

// The level in use, the best this processor has, and a level's name ("portable", ...; "unknown").
int retort_kernels_level(void) RETORT_KERNELS_NOEXCEPT;
int retort_kernels_level_max(void) RETORT_KERNELS_NOEXCEPT;
const char* retort_kernels_level_name(int level) RETORT_KERNELS_NOEXCEPT;

// For tests and benchmarks: switches the level (clamped to level_max) and returns the one set.
// Not while another thread runs a kernel.
int retort_kernels_set_level(int level) RETORT_KERNELS_NOEXCEPT;

RETORT_KERNELS_END
#endif  // RETORT_KERNELS_LEVEL_H_
