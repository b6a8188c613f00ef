// What the kernel tests share: seeded values, a loop over the levels this processor has, and a
// comparison with references computed in f64. Buffers end in guard elements that must survive.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "retort/kernels/level.h"

namespace retort::kernels {

// Awkward on purpose: one, around a vector, primes, a whole number of blocks, a tail after them.
inline constexpr int64_t kSizes[] = {1, 2, 7, 15, 16, 17, 31, 33, 64, 97, 256, 257, 576, 1031};

template <class S>
std::vector<S> Random(int64_t n, uint32_t seed, double scale = 1) {
  std::mt19937 rng(seed);
  std::normal_distribution<double> normal(0, scale);
  std::vector<S> v(static_cast<size_t>(n));
  for (S& x : v) x = static_cast<S>(normal(rng));
  return v;
}

// An output buffer whose 16 elements after the end must stay as they were.
template <class S>
class Guarded {
 public:
  explicit Guarded(int64_t n, S fill = S(0)) : n_(n), v_(static_cast<size_t>(n + 16), kGuard) {
    for (int64_t i = 0; i < n; ++i) v_[static_cast<size_t>(i)] = fill;
  }
  explicit Guarded(const std::vector<S>& from) : Guarded(static_cast<int64_t>(from.size())) {
    std::copy(from.begin(), from.end(), v_.begin());
  }
  ~Guarded() {
    for (size_t i = static_cast<size_t>(n_); i < v_.size(); ++i) {
      EXPECT_EQ(v_[i], kGuard) << "written past the end";
    }
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  S* data() { return v_.data(); }
  std::span<const S> view() const { return {v_.data(), static_cast<size_t>(n_)}; }

 private:
  static constexpr S kGuard = S(-12345);
  int64_t n_;
  std::vector<S> v_;
};

template <class Body>
void ForEachLevel(Body body) {
  const int before = retort_kernels_level();
  for (int level = 0; level <= retort_kernels_level_max(); ++level) {
    SCOPED_TRACE(retort_kernels_level_name(retort_kernels_set_level(level)));
    body();
  }
  retort_kernels_set_level(before);
}

// |got - want| <= tolerance * max(1, |want|).
template <class S>
void ExpectNear(std::span<const S> got, const std::vector<double>& want, double tolerance,
                const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < want.size(); ++i) {
    const double limit = tolerance * std::max(1.0, std::fabs(want[i]));
    ASSERT_NEAR(static_cast<double>(got[i]), want[i], limit) << what << " at " << i;
  }
}

}  // namespace retort::kernels
