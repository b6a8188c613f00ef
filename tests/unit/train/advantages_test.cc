// SPDX-License-Identifier: Apache-2.0
#include "core/train/advantages.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <sstream>
#include <string>

namespace retort::train {
namespace {

constexpr double kUnmeasured = std::numeric_limits<double>::quiet_NaN();

// Lines "name value value …" that torch worked out.
std::map<std::string, std::vector<double>> Golden() {
  std::map<std::string, std::vector<double>> golden;
  std::ifstream file(std::string(RETORT_SOURCE_DIR) + "/tests/golden/advantages.txt");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    words >> name;
    for (double v = 0; words >> v;) golden[name].push_back(v);
  }
  return golden;
}

void ExpectNearAll(const std::vector<double>& got, const std::vector<double>& want,
                   const std::string& name) {
  ASSERT_EQ(got.size(), want.size()) << name;
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-12) << name << " " << i;
}

TEST(Advantages, EqualTorch) {
  const auto golden = Golden();
  const std::vector<double>&total = golden.at("rewards"), &second = golden.at("second");
  const Rewards rewards{
      .group_size = 4, .total = total, .columns = {total, second}, .weights = {0.7, 0.3}};
  for (const char* name :
       {"group", "none", "batch", "rloo", "loo_std", "gdpo", "reinforce_baseline"}) {
    AdvantageOptions options{.kind = *ParseAdvantage(name)};
    if (options.kind == Advantage::kLooStd) options.eps = 1e-6;
    ExpectNearAll(Advantages(rewards, options), golden.at(name), name);
  }
}

TEST(Advantages, DeviationsCanBeThoseOfThePopulation) {
  const std::vector<double> total = {1, 1, 2};
  const Rewards rewards{.group_size = 3, .total = total, .columns = {}, .weights = {}};
  const auto a = Advantages(rewards, {.eps = 0, .population = true});
  EXPECT_NEAR(a[0], -std::sqrt(0.5), 1e-12);
  EXPECT_NEAR(a[2], std::sqrt(2.0), 1e-12);
}

TEST(Advantages, WhatWasNotMeasuredHasNoPart) {
  const std::vector<double> total = {1, kUnmeasured, 3, kUnmeasured, 5, kUnmeasured};
  const Rewards rewards{.group_size = 3, .total = total, .columns = {}, .weights = {}};
  for (const Advantage kind : {Advantage::kGroup, Advantage::kNone, Advantage::kRloo}) {
    const auto a = Advantages(rewards, {.kind = kind, .eps = 0});
    EXPECT_TRUE(std::isnan(a[1]) && std::isnan(a[3]) && std::isnan(a[5]));
    EXPECT_NEAR(a[0], -a[2], 1e-12);
    EXPECT_LT(a[0], 0);
    EXPECT_EQ(a[4], 0) << "alone in its group";
  }
}

TEST(Advantages, UnknownNamesAreRefusedWithTheKnown) {
  const Status status = ParseAdvantage("grup").status();
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_NE(status.message().find("group, batch"), std::string::npos);
}

TEST(GeneralisedAdvantages, EqualTorchAndPassOverMaskedTokens) {
  const auto golden = Golden();
  const std::vector<double>&scores = golden.at("scores"), &values = golden.at("values");
  const Gae gae{.gamma = 0.98, .lambda = 0.9};
  const std::vector<uint8_t> all(5, 1);
  ExpectNearAll(gae.Run(scores, values, all), golden.at("gae"), "gae");
  // A masked token in between is as if it weren't there.
  std::vector<double> wide_scores = scores, wide_values = values;
  wide_scores.insert(wide_scores.begin() + 2, 77);
  wide_values.insert(wide_values.begin() + 2, kUnmeasured);
  auto wide = gae.Run(wide_scores, wide_values, std::vector<uint8_t>{1, 1, 0, 1, 1, 1});
  EXPECT_EQ(wide[2], 0);
  wide.erase(wide.begin() + 2);
  ExpectNearAll(wide, golden.at("gae"), "masked");
}

TEST(Whitening, EqualsTorch) {
  const auto golden = Golden();
  std::vector<double> x = golden.at("scores");
  Whiten(x, std::vector<uint8_t>(5, 1));
  ExpectNearAll(x, golden.at("whiten"), "whiten");
  x = golden.at("scores");
  Whiten(x, std::vector<uint8_t>(5, 1), true);
  ExpectNearAll(x, golden.at("whiten_keep_mean"), "keep_mean");
}

}  // namespace
}  // namespace retort::train
