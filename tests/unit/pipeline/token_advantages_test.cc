// Advantages and returns of tokens against sums written out plainly, and their places in a batch.
// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stages/token_advantages.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace retort::host {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kGamma = 0.9, kLambda = 0.8, kKl = 0.1;

// Completions of 3, 2 and 2 tokens; the second begins with a forced one, the third isn't trained.
struct Round {
  Round() {
    for (const int32_t n : {3, 2, 2}) {
      data::Sample sample;
      sample.prompt_ids = {1, 2};
      for (int32_t t = 0; t < n; ++t) sample.completion_ids.push_back(3 + t);
      sample.logp.assign(static_cast<size_t>(n), -1);
      rollouts.samples.push_back(std::move(sample));
    }
    rollouts.samples[1].n_prefix = 1;
    rollouts.rewards.resize(3);
    rollouts.total = {2, -1, kNaN};
    rollouts.advantage = {0, 0, kNaN};
    values.old_logp = {{-1, -2, -3}, {-4, -5}, {-6, -7}};
    values.ref_logp = {{-1.5F, -1, -3.5F}, {-4, -4.5F}, {-6, -6}};
    values.old_value = {{0.5F, -0.25F, 1}, {3, 0.75F}, {1, 1}};
  }
  Rollouts rollouts;
  TokenValues values;
};

TokenAdvantageOptions Options() {
  return {.gae = {.gamma = kGamma, .lambda = kLambda}, .kl_coef = kKl};
}

// A_t = sum over k of (gamma lambda)^k delta_{t+k}, forwards.
std::vector<double> Sums(const std::vector<double>& reward, const std::vector<double>& value) {
  std::vector<double> out;
  for (size_t t = 0; t < reward.size(); ++t) {
    double sum = 0;
    for (size_t k = t; k < reward.size(); ++k) {
      const double next = k + 1 < reward.size() ? value[k + 1] : 0;
      sum += std::pow(kGamma * kLambda, static_cast<double>(k - t)) *
             (reward[k] + kGamma * next - value[k]);
    }
    out.push_back(sum);
  }
  return out;
}

TEST(TokenAdvantages, AreWhitenedSumsOfSurprise) {
  Round round;
  EstimateAdvantages(Options(), &round.rollouts, &round.values);
  const std::vector<double> a = Sums({-kKl * 0.5, kKl, -kKl * 0.5 + 2}, {0.5, -0.25, 1});
  const std::vector<double> b = Sums({kKl * 0.5 - 1}, {0.75});
  const std::vector<double> all = {a[0], a[1], a[2], b[0]};
  double mean = 0, squares = 0;
  for (const double v : all) mean += v / 4;
  for (const double v : all) squares += (v - mean) * (v - mean);
  const double scale = 1 / std::sqrt(squares / 3 + 1e-8);
  const TokenValues& got = round.values;
  for (size_t t = 0; t < 3; ++t) {
    EXPECT_NEAR(got.advantage[0][t], (a[t] - mean) * scale, 1e-6) << t;
    EXPECT_NEAR(got.returns[0][t], a[t] + static_cast<double>(got.old_value[0][t]), 1e-6) << t;
  }
  EXPECT_EQ(got.advantage[1][0], 0);
  EXPECT_NEAR(got.advantage[1][1], (b[0] - mean) * scale, 1e-6);
  EXPECT_NEAR(got.returns[1][1], b[0] + 0.75, 1e-6);
  EXPECT_EQ(got.advantage[2], (std::vector<float>{0, 0}));
  EXPECT_NEAR(round.rollouts.advantage[0], ((a[0] + a[1] + a[2]) / 3 - mean) * scale, 1e-6);
  EXPECT_TRUE(std::isnan(round.rollouts.advantage[2]));
}

TEST(TokenAdvantages, WithoutDivergenceNoReferenceIsRead) {
  Round round;
  round.values.ref_logp.clear();
  round.values.old_logp.clear();
  TokenAdvantageOptions options = Options();
  options.kl_coef = 0;
  EstimateAdvantages(options, &round.rollouts, &round.values);
  EXPECT_NEAR(round.values.returns[1][1], -1, 1e-6);
}

TEST(TokenAdvantages, WhitenedRewardsKeepTheirMean) {
  Round round;
  TokenAdvantageOptions options = Options();
  options.gae = {.gamma = 1, .lambda = 1};
  options.whiten_rewards = true;
  EstimateAdvantages(options, &round.rollouts, &round.values);
  // With gamma and lambda 1 the first return is the sum of the rewards.
  const std::vector<double> rewards = {-kKl * 0.5, kKl, -kKl * 0.5 + 2, kKl * 0.5 - 1};
  double mean = 0, squares = 0;
  for (const double r : rewards) mean += r / 4;
  for (const double r : rewards) squares += (r - mean) * (r - mean);
  const double sum =
      (rewards[0] + rewards[1] + rewards[2] - 3 * mean) / std::sqrt(squares / 3 + 1e-8) + 3 * mean;
  EXPECT_NEAR(round.values.returns[0][0], sum, 1e-6);
}

TEST(TokenAdvantages, StandAtTheirTokensInABatch) {
  Round round;
  EstimateAdvantages(Options(), &round.rollouts, &round.values);
  const size_t groups[] = {0, 1, 2};
  const auto batches = PolicyBatches(round.rollouts, round.values, 0, false).Make(groups, 100);
  ASSERT_EQ(batches.size(), 1U);
  const engine::SequenceInputs& got = batches[0].sequence;
  const TokenValues& v = round.values;
  EXPECT_EQ(got.advantage, (std::vector<float>{0, 0, v.advantage[0][0], v.advantage[0][1],
                                               v.advantage[0][2], 0, 0, 0, v.advantage[1][1], 0}));
  EXPECT_EQ(got.old_value, (std::vector<float>{0, 0, 0.5F, -0.25F, 1, 0, 0, 3, 0.75F, 0}));
  EXPECT_EQ(got.returns, (std::vector<float>{0, 0, v.returns[0][0], v.returns[0][1],
                                             v.returns[0][2], 0, 0, 0, v.returns[1][1], 0}));
}

}  // namespace
}  // namespace retort::host
