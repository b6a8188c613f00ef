// filter/length, filter/reward_threshold, filter/self_vote.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/plugins/harness.h"

namespace retort::host {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Scores of k rewards for each sample, weights, and answer classes, as the host would give them.
struct Findings {
  std::vector<double> scores = {}, weights = {};
  std::vector<uint8_t> status = {};
  std::vector<int64_t> first_equal = {};
};

struct Judged {
  Status status;
  std::vector<std::string> reasons;  // "" where kept
};

// One group of all samples through the filter.
Judged Judge(const PluginInstance& filter, const std::vector<TestSample>& samples,
             const Findings& f = {}) {
  static constexpr const char* kNames[] = {"first", "second", "third"};
  const std::vector<retort_sample> raw = ToRaw(samples);
  const retort_group group = {0, raw.size(), 0};
  Judged out{.status = {}, .reasons = std::vector<std::string>(raw.size())};
  const retort_filter_args args = {
      .struct_size = sizeof(args),
      .sample_stride = sizeof(retort_sample),
      .group_stride = sizeof(retort_group),
      .pass = 0,
      .samples = raw.data(),
      .n_samples = raw.size(),
      .groups = &group,
      .n_groups = 1,
      .reward_names = kNames,
      .n_rewards = raw.empty() ? 0 : f.scores.size() / raw.size(),
      .reward_weights = f.weights.empty() ? nullptr : f.weights.data(),
      .scores = f.scores.data(),
      .score_status = f.status.data(),
      .first_equal = f.first_equal.empty() ? nullptr : f.first_equal.data(),
      .info = nullptr,
      .out_ctx = &out,
      .decide = [](void* ctx, uint64_t i, const retort_decision* d) {
        std::string& reason = static_cast<Judged*>(ctx)->reasons[i];
        reason = (d->action == RETORT_ERROR ? "error: " : "") + std::string(ToView(d->reason));
      }};
  const auto* table =
      static_cast<const retort_filter_v1*>(filter.interface(RETORT_FILTER_INTERFACE));
  PluginCall call(filter.name());
  out.status = call.End(table->judge(filter.get(), call.Begin(), &args), "judge");
  return out;
}

uint32_t FlagsOf(const PluginInstance& filter) {
  return static_cast<const retort_filter_v1*>(filter.interface(RETORT_FILTER_INTERFACE))->flags;
}

TEST(Length, BoundsOnTokensAreInclusive) {
  const PluginInstance filter = Make("filter", "length", R"({"min_tokens": 2, "max_tokens": 3})");
  EXPECT_TRUE(FlagsOf(filter) & RETORT_FILTER_NEEDS_IDS);
  const Judged j = Judge(filter, {{"", "", "", {1}},
                                  {"", "", "", {1, 2}},
                                  {"", "", "", {1, 2, 3}},
                                  {"", "", "", {1, 2, 3, 4}}});
  EXPECT_THAT(j.reasons, ElementsAre("fewer than 2 tokens", "", "", "more than 3 tokens"));
}

TEST(Length, CharactersAreCodePoints) {
  const PluginInstance filter = Make("filter", "length", R"({"max_chars": 3})");
  EXPECT_FALSE(FlagsOf(filter) & RETORT_FILTER_NEEDS_IDS);
  const Judged j = Judge(filter, {{"\u00e9\u4e2d\U0001f600", "", ""}, {"abcd", "", ""}});
  EXPECT_THAT(j.reasons, ElementsAre("", "more than 3 chars"));
}

TEST(Length, MissingIdsAreAnErrorNotADrop) {
  const PluginInstance filter = Make("filter", "length", R"({"max_tokens": 3})");
  EXPECT_THAT(Judge(filter, {{"x", "", ""}}).reasons[0], HasSubstr("error: "));
}

TEST(Length, BadConfigs) {
  EXPECT_THAT(ConfigError("filter", "length", "{}"), HasSubstr("(config): no bound is set"));
  EXPECT_THAT(ConfigError("filter", "length", R"({"min_tokens": 5, "max_tokens": 4})"),
              HasSubstr("/min_tokens: is 5, above max_tokens 4"));
  EXPECT_THAT(ConfigError("filter", "length", R"({"max_tokens": -1})"), HasSubstr("/max_tokens"));
  EXPECT_THAT(ConfigError("filter", "length", R"({"max_token": 1})"), HasSubstr("max_tokens"));
}

constexpr uint8_t kOk = RETORT_SCORE_OK, kNone = RETORT_SCORE_NOT_APPLICABLE,
                  kFailed = RETORT_SCORE_ERROR;
const double kNan = std::nan("");

TEST(RewardThreshold, WeightedSumDecides) {
  const PluginInstance filter = Make("filter", "reward_threshold", R"({"min": 0.5, "max": 1.5})");
  EXPECT_TRUE(FlagsOf(filter) & RETORT_FILTER_NEEDS_SCORES);
  const Judged j = Judge(filter, std::vector<TestSample>(5),
                         {.scores = {1, 1, 0, 1, 1, 0, 1, 2, 0.25, 0.5},
                          .weights = {0.5, 0.5},
                          .status = std::vector<uint8_t>(10, kOk)});
  EXPECT_THAT(j.reasons, ElementsAre("", "", "", "", "reward below 0.5"));
  const Judged above =
      Judge(filter, std::vector<TestSample>(1), {.scores = {1.75}, .status = {kOk}});
  EXPECT_THAT(above.reasons, ElementsAre("reward above 1.5"));
}

TEST(RewardThreshold, UnmeasuredIsDroppedWithThatReason) {
  const PluginInstance filter = Make("filter", "reward_threshold", "");
  const Judged j = Judge(filter, std::vector<TestSample>(3),
                         {.scores = {1, kNan, 1, kNan, kNan, kNan},
                          .weights = {1, 1},
                          .status = {kOk, kNone, kOk, kFailed, kNone, kNone}});
  EXPECT_THAT(j.reasons, ElementsAre("", "unmeasured: second", "unmeasured: no reward applies"));
}

TEST(RewardThreshold, NeedsRewardsAndSaneBounds) {
  const PluginInstance filter = Make("filter", "reward_threshold", "");
  EXPECT_THAT(Judge(filter, std::vector<TestSample>(1)).status.message(), HasSubstr("\"rewards\""));
  EXPECT_THAT(ConfigError("filter", "reward_threshold", R"({"min": 2, "max": 1})"),
              HasSubstr("/min: is 2, above max 1"));
}

TEST(SelfVote, MajorityKeepsItsFirst) {
  const PluginInstance filter = Make("filter", "self_vote", R"({"threshold": 0.6})");
  EXPECT_TRUE(FlagsOf(filter) & RETORT_FILTER_NEEDS_ANSWERS);
  const Judged j = Judge(filter, std::vector<TestSample>(5), {.first_equal = {0, 1, 1, -1, 1}});
  EXPECT_THAT(j.reasons,
              ElementsAre("not the majority's answer", "", "agrees, but another was picked",
                          "no answer", "agrees, but another was picked"));
}

TEST(SelfVote, ThresholdIsAnExactShareOfAllSamples) {
  const PluginInstance filter = Make("filter", "self_vote", "");  // 0.8
  const Findings four_of_five = {.first_equal = {0, 0, 0, 0, 4}};
  EXPECT_EQ(Judge(filter, std::vector<TestSample>(5), four_of_five).reasons[0], "");
  const Findings three_of_four = {.first_equal = {0, 0, 0, -1}};
  EXPECT_EQ(Judge(filter, std::vector<TestSample>(4), three_of_four).reasons[0], "no agreement");
}

TEST(SelfVote, TiesGoToTheFirstClass) {
  const PluginInstance filter = Make("filter", "self_vote", R"({"threshold": 0.5})");
  const Judged j = Judge(filter, std::vector<TestSample>(4), {.first_equal = {0, 1, 1, 0}});
  EXPECT_EQ(j.reasons[0], "");
  EXPECT_EQ(j.reasons[1], "not the majority's answer");
}

TEST(SelfVote, NoAnswersAreNeverKept) {
  const PluginInstance filter = Make("filter", "self_vote", R"({"threshold": 0})");
  const Judged j = Judge(filter, std::vector<TestSample>(2), {.first_equal = {-1, -1}});
  EXPECT_THAT(j.reasons, ElementsAre("no answer", "no answer"));
}

TEST(SelfVote, Picks) {
  const std::vector<TestSample> samples = {{"long text", "", "", {1, 2}, {-1, -3}},
                                           {"text", "", "", {1, 2}, {-2, -3}},
                                           {"longest text", "", "", {1}, {-1}}};
  const Findings same = {.first_equal = {0, 0, 0}};
  const auto kept = [&](const char* pick) {
    const std::string config = std::string(R"({"pick": ")") + pick + "\"}";
    const Judged j = Judge(Make("filter", "self_vote", config), samples, same);
    std::string out;
    for (const std::string& reason : j.reasons) out += reason.empty() ? '+' : '-';
    return out;
  };
  EXPECT_EQ(kept("first"), "+--");
  EXPECT_EQ(kept("shortest"), "-+-");
  EXPECT_EQ(kept("logprob"), "--+");
  EXPECT_EQ(kept("all"), "+++");
}

TEST(SelfVote, AsksForIdsOnlyWhereLogprobsDecide) {
  const auto asks = [](const char* config) {
    const PluginInstance filter = Make("filter", "self_vote", config);
    const auto* table =
        static_cast<const retort_filter_v1*>(filter.interface(RETORT_FILTER_INTERFACE));
    return (table->flags & RETORT_FILTER_NEEDS_IDS) != 0;
  };
  EXPECT_TRUE(asks(R"({"pick": "logprob"})"));
  EXPECT_FALSE(asks(R"({"pick": "first"})"));
}

TEST(SelfVote, NeedsAnswersAndLogprobs) {
  EXPECT_THAT(Judge(Make("filter", "self_vote", ""), std::vector<TestSample>(1)).status.message(),
              HasSubstr("answer classes"));
  const PluginInstance by_logprob = Make("filter", "self_vote", R"({"pick": "logprob"})");
  EXPECT_THAT(Judge(by_logprob, std::vector<TestSample>(1), {.first_equal = {0}}).status.message(),
              HasSubstr("log-probabilities"));
}

}  // namespace
}  // namespace retort::host
