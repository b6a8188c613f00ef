// SPDX-License-Identifier: Apache-2.0
#include "retort/kernels/level.h"

#include <atomic>

#include "retort/kernels/parallel.h"
#include "tests/unit/kernels/kernel_testing.h"

namespace retort::kernels {
namespace {

TEST(Level, SetLevelClampsToTheProcessor) {
  const int best = retort_kernels_level_max(), before = retort_kernels_level();
  EXPECT_EQ(retort_kernels_set_level(99), best);
  EXPECT_EQ(retort_kernels_set_level(-1), RETORT_KERNELS_PORTABLE);
  EXPECT_EQ(retort_kernels_level(), RETORT_KERNELS_PORTABLE);
  retort_kernels_set_level(before);
}

// ctest sets RETORT_KERNELS=portable for this program.
TEST(Level, EnvironmentLowersTheLevel) {
  EXPECT_STREQ(getenv("RETORT_KERNELS"), "portable");
  EXPECT_EQ(retort_kernels_level(), RETORT_KERNELS_PORTABLE);
}

TEST(Level, NamesAreThoseOfTheEnvironmentVariable) {
  EXPECT_STREQ(retort_kernels_level_name(RETORT_KERNELS_AVX2), "avx2");
  EXPECT_STREQ(retort_kernels_level_name(7), "unknown");
}

TEST(ParallelFor, CallsEachIndexOnce) {
  for (int threads : {0, 1, 2, 5}) {
    std::vector<std::atomic<int>> seen(37);
    retort_parallel_for(
        37, threads,
        [](void* context, int64_t i) {
          ++(*static_cast<std::vector<std::atomic<int>>*>(context))[static_cast<size_t>(i)];
        },
        &seen);
    for (const auto& s : seen) EXPECT_EQ(s, 1);
  }
}

}  // namespace
}  // namespace retort::kernels
