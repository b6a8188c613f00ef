// SPDX-License-Identifier: Apache-2.0
#include "core/ops/dropout.h"

#include <gtest/gtest.h>

#include <vector>

namespace retort::ops {
namespace {

std::vector<double> Dropped(RngKey key, double p, int64_t rows, int64_t width, int threads) {
  std::vector<double> x(static_cast<size_t>(rows * width), 1.0), y(x.size(), -1.0);
  Dropout(key, p, TensorView::Contiguous(x.data(), DType::kF64, {rows, width}),
          TensorView::Contiguous(y.data(), DType::kF64, {rows, width}), threads);
  return y;
}

TEST(Dropout, AnElementFollowsFromItsWordOfTheStream) {
  const RngKey key{3, 9};
  const double p = 0.3;
  for (const int64_t n : {1, 3, 64, 65, 4097, 10007}) {
    const std::vector<double> y = Dropped(key, p, n, 1, 2);
    for (int64_t i = 0; i < n; ++i) {
      Rng rng(key, static_cast<uint64_t>(i / 2));
      const uint64_t word = rng.Next64() >> (32 * (i % 2)) & 0xFFFFFFFF;
      const bool kept = static_cast<double>(word) >= p * 4294967296.0 - 1;
      ASSERT_EQ(y[static_cast<size_t>(i)], kept ? 1 / (1 - p) : 0) << n << " " << i;
    }
  }
}

TEST(Dropout, DropsItsShareAndKeepsTheMean) {
  const std::vector<double> y = Dropped({1, 2}, 0.1, 1000, 100, 2);
  double sum = 0, zeros = 0;
  for (const double v : y) sum += v, zeros += v == 0 ? 1 : 0;
  EXPECT_NEAR(zeros / 1e5, 0.1, 0.005);  // five deviations
  EXPECT_NEAR(sum / 1e5, 1, 0.006);
}

TEST(Dropout, RowsMayHaveGaps) {
  const std::vector<double> want = Dropped({1, 2}, 0.5, 9, 13, 1);
  std::vector<double> x(9 * 20, 1.0), y(9 * 16, 7.0);
  TensorView from = TensorView::Contiguous(x.data(), DType::kF64, {9, 20});
  TensorView to = TensorView::Contiguous(y.data(), DType::kF64, {9, 16});
  from.shape[1] = to.shape[1] = 13;
  Dropout({1, 2}, 0.5, from, to, 2);
  for (size_t t = 0; t < 9; ++t) {
    for (size_t i = 0; i < 16; ++i) {
      ASSERT_EQ(y[t * 16 + i], i < 13 ? want[t * 13 + i] : 7) << t << " " << i;
    }
  }
}

TEST(Dropout, DependsOnTheKeyAloneAndMayWorkInPlace) {
  EXPECT_EQ(Dropped({1, 2}, 0.5, 77, 131, 1), Dropped({1, 2}, 0.5, 77, 131, 2));
  EXPECT_NE(Dropped({1, 2}, 0.5, 77, 131, 1), Dropped({1, 3}, 0.5, 77, 131, 1));
  std::vector<double> x(77 * 131, 1.0);
  const TensorView view = TensorView::Contiguous(x.data(), DType::kF64, {77, 131});
  Dropout({1, 2}, 0.5, view, view, 2);
  EXPECT_EQ(x, Dropped({1, 2}, 0.5, 77, 131, 2));
  EXPECT_EQ(Dropped({1, 2}, 0, 5, 7, 1), std::vector<double>(35, 1.0));
}

}  // namespace
}  // namespace retort::ops
