// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stages/policy_batches.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace retort::host {
namespace {

// Groups of two: prompts of 2 tokens, completions of 3 and 2, the last one not trained on.
Rollouts TwoGroups() {
  Rollouts rollouts;
  for (int32_t i = 0; i < 4; ++i) {
    data::Sample sample;
    sample.prompt_ids = {10 * i, 10 * i + 1};
    sample.completion_ids = {10 * i + 2, 10 * i + 3};
    sample.logp = {-1.0F, -2.0F};
    if (i % 2 == 0) {
      sample.completion_ids.push_back(10 * i + 4);
      sample.logp.push_back(-3.0F);
    }
    rollouts.samples.push_back(std::move(sample));
  }
  rollouts.rewards.resize(2);
  rollouts.total = {1, 0, 1, 0};
  rollouts.advantage = {0.5, -0.5, 0.25, std::numeric_limits<double>::quiet_NaN()};
  return rollouts;
}

TEST(PolicyBatches, TokenValuesStandAtTheirTokens) {
  const Rollouts rollouts = TwoGroups();
  TokenValues values;
  values.old_logp = {{-1, -2, -3}, {-4, -5}, {-6, -7, -8}, {-9, -10}};
  const size_t groups[] = {0, 1};
  const auto batches =
      PolicyBatches(rollouts, values, -std::numeric_limits<double>::infinity(), false)
          .Make(groups, 100);
  ASSERT_EQ(batches.size(), 1U);
  const engine::MicroBatch& b = batches[0];
  // The sample that isn't trained on is there as its first token.
  EXPECT_EQ(b.cu_seqlens, (std::vector<int32_t>{0, 5, 9, 14, 15}));
  EXPECT_EQ(b.ids.back(), 30);
  EXPECT_EQ(b.labels, (std::vector<int64_t>{-100, 2, 3, 4, -100, -100, 12, 13, -100, -100, 22, 23,
                                            24, -100, -100}));
  EXPECT_EQ(b.sequence.old_logp,
            (std::vector<float>{0, 0, -1, -2, -3, 0, 0, -4, -5, 0, 0, -6, -7, -8, 0}));
  EXPECT_EQ(b.sequence.behaviour_logp,
            (std::vector<float>{0, 0, -1, -2, -3, 0, 0, -1, -2, 0, 0, -1, -2, -3, 0}));
  EXPECT_EQ(b.sequence.advantage[4], 0.5F);
  EXPECT_EQ(b.sequence.advantage[8], -0.5F);
  EXPECT_EQ(b.sequence.group_id, (std::vector<int32_t>{0, 0, 1, 1}));
  EXPECT_TRUE(b.sequence.ref_logp.empty());
  EXPECT_TRUE(b.sequence.policy_weight.empty());
}

TEST(PolicyBatches, ABatchHoldsWholeSequencesUpToItsTokens) {
  const Rollouts rollouts = TwoGroups();
  const size_t groups[] = {1, 0};
  const auto batches = PolicyBatches(rollouts, {}, 0, false).Make(groups, 6);
  ASSERT_EQ(batches.size(), 3U);
  EXPECT_EQ(batches[0].ids.size(), 6U);  // 5 tokens, and the one that isn't trained on
  EXPECT_EQ(batches[0].ids[0], 20);
  EXPECT_EQ(batches[1].ids.size(), 5U);
  EXPECT_EQ(batches[2].ids.size(), 4U);
}

TEST(PolicyBatches, SamplesOfAPromptHaveItsRowsOnce) {
  Rollouts rollouts = TwoGroups();
  for (size_t i = 0; i < 2; ++i) rollouts.samples[i].prompt_ids = {7, 8, 9};
  TokenValues values;
  values.old_logp = {{-1, -2, -3}, {-4, -5}, {-6, -7, -8}, {-9, -10}};
  const size_t groups[] = {0, 1};
  const PolicyBatches all(rollouts, values, 0, true);
  const auto batches = all.Make(groups, 100);
  ASSERT_EQ(batches.size(), 1U);
  const engine::MicroBatch& b = batches[0];
  EXPECT_EQ(b.ids, (std::vector<int32_t>{7, 8, 9, 2, 3, 4, 9, 12, 13, 20, 21, 22, 23, 24, 30}));
  EXPECT_EQ(b.positions, (std::vector<int32_t>{0, 1, 2, 3, 4, 5, 2, 3, 4, 0, 1, 2, 3, 4, 0}));
  EXPECT_EQ(b.labels, (std::vector<int64_t>{-100, -100, 2, 3, 4, -100, 12, 13, -100, -100, 22, 23,
                                            24, -100, -100}));
  EXPECT_EQ(b.sequence.old_logp,
            (std::vector<float>{0, 0, 0, -1, -2, -3, 0, -4, -5, 0, 0, -6, -7, -8, 0}));
  EXPECT_EQ(b.sequence.behaviour_logp,
            (std::vector<float>{0, 0, 0, -1, -2, -3, 0, -1, -2, 0, 0, -1, -2, -3, 0}));
  EXPECT_EQ(b.sequence.advantage.size(), b.ids.size());
  ASSERT_EQ(b.prefixes.size(), 4U);
  EXPECT_EQ(b.prefixes[1].sequence, 0);
  EXPECT_EQ(b.prefixes[1].rows, 2);
  for (const size_t s : {0, 2, 3}) EXPECT_EQ(b.prefixes[s].sequence, -1);
  // Where the second sample doesn't fit beside the first it has its prompt again.
  const auto cut = all.Make(groups, 8);
  ASSERT_EQ(cut.size(), 3U);
  EXPECT_TRUE(cut[0].prefixes.empty());
  EXPECT_EQ(cut[1].ids, (std::vector<int32_t>{7, 8, 9, 12, 13}));
}

TEST(PolicyBatches, NoGroupsGiveNoBatches) {
  EXPECT_TRUE(PolicyBatches(Rollouts{}, {}, 0, false).Make({}, 100).empty());
}

TEST(PolicyBatches, TheForcedPrefixHasNoLabels) {
  Rollouts rollouts = TwoGroups();
  rollouts.samples[0].n_prefix = 1;
  const size_t groups[] = {0};
  const auto batches = PolicyBatches(rollouts, {}, 0, false).Make(groups, 100);
  EXPECT_EQ(std::vector<int64_t>(batches[0].labels.begin(), batches[0].labels.begin() + 5),
            (std::vector<int64_t>{-100, -100, 3, 4, -100}));
}

TEST(PolicyBatches, OnlyTheShareOfHighestEntropyHasWeight) {
  const Rollouts rollouts = TwoGroups();
  TokenValues values;
  values.entropy = {{0.1F, 0.9F, 0.5F}, {0.3F, 0.7F}, {0.2F, 0.8F, 0.4F}, {9, 9}};
  // Eight tokens are trained on; torch.quantile(…, 0.5) of them is 0.45.
  const double floor = EntropyFloor(rollouts, values, 0.5);
  EXPECT_NEAR(floor, 0.45, 1e-7);
  EXPECT_EQ(EntropyFloor(rollouts, values, 1), -std::numeric_limits<double>::infinity());
  const size_t groups[] = {0};
  const auto batches = PolicyBatches(rollouts, values, floor, false).Make(groups, 100);
  EXPECT_EQ(std::vector<float>(batches[0].sequence.policy_weight.begin() + 2,
                               batches[0].sequence.policy_weight.begin() + 5),
            (std::vector<float>{0, 1, 1}));
}

}  // namespace
}  // namespace retort::host
