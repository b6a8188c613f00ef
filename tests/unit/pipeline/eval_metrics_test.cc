// Intervals against numbers computed elsewhere (statsmodels 0.14 proportion_confint and formulas
// worked out by hand).
// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stages/eval_metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace retort::host {
namespace {

TEST(Proportion, IsWilsonsInterval) {
  // 7 of 32: center (7/32 + z²/64) / (1 + z²/32), z = 1.959964.
  const Estimate e = Proportion(7, 32);
  EXPECT_DOUBLE_EQ(e.value, 0.21875);
  EXPECT_NEAR(e.low, 0.1102, 5e-5);
  EXPECT_NEAR(e.high, 0.3875, 5e-5);
  EXPECT_EQ(e.n, 32);
}

TEST(Proportion, EndsStayInside) {
  // No success of 10: high = z² / (n + z²) = 3.841459 / 13.841459.
  const Estimate none = Proportion(0, 10);
  EXPECT_EQ(none.low, 0);
  EXPECT_NEAR(none.high, 0.277533, 1e-6);
  const Estimate all = Proportion(10, 10);
  EXPECT_EQ(all.high, 1);
  EXPECT_NEAR(all.low, 1 - 0.277533, 1e-6);
  EXPECT_TRUE(std::isnan(Proportion(0, 0).value));
}

TEST(Mean, UsesTheSampleDeviation) {
  // Mean 5, deviation sqrt(20/3), n 4.
  const Estimate e = Mean(std::vector<double>{2, 4, 6, 8});
  EXPECT_DOUBLE_EQ(e.value, 5);
  EXPECT_NEAR(e.high - e.value, 1.959964 * std::sqrt(20.0 / 3 / 4), 1e-6);
  EXPECT_NEAR(e.value - e.low, e.high - e.value, 1e-12);
}

TEST(Mean, OfZerosAndOnesIsAProportion) {
  const Estimate e = Mean(std::vector<double>{1, 0, 0, 1});
  EXPECT_DOUBLE_EQ(e.low, Proportion(2, 4).low);
}

TEST(Ratio, IsSumOverSum) {
  // (-10 - 30) / (10 + 10) = -2; residuals 10 and -10: sqrt(200 * 2 / 1) = 20; / 20 tokens = 1.
  const Estimate e = Ratio(std::vector<double>{-10, -30}, std::vector<double>{10, 10});
  EXPECT_DOUBLE_EQ(e.value, -2);
  EXPECT_NEAR(e.high, -2 + 1.959964, 1e-6);
  EXPECT_EQ(e.n, 2);
}

}  // namespace
}  // namespace retort::host
