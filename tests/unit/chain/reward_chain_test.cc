// The reward chain against probe plugins that do what each completion says.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "tests/unit/chain/chain_fixture.h"

namespace retort::host {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class RewardChainTest : public ChainTest {};

RewardTable Score(Result<RewardChain>& chain, const std::vector<data::Sample>& samples,
                  const ChainCall& call = {}) {
  Result<RewardTable> table = chain.value().Score(samples, call);
  EXPECT_TRUE(table.ok()) << table.status().ToString();
  return std::move(table).value();
}

TEST_F(RewardChainTest, WhatCannotBeMeasuredHasNoScoreAndAStatusOfItsOwn) {
  auto chain = Rewards(R"([{"plugin": "plain", "max_error_rate": 1}])");
  const RewardTable table =
      Score(chain, Alone({"0.5", "na", "error", "timeout", "nan", "odd", "untouched"}));
  EXPECT_THAT(table.status,
              ElementsAre(ScoreStatus::kOk, ScoreStatus::kNotApplicable, ScoreStatus::kError,
                          ScoreStatus::kTimeout, ScoreStatus::kError, ScoreStatus::kError,
                          ScoreStatus::kError));
  EXPECT_EQ(table.score[0], 0.5);
  for (size_t i = 1; i < 7; ++i) {
    EXPECT_TRUE(std::isnan(table.score[i])) << i;
    EXPECT_TRUE(std::isnan(table.reward[i])) << i;
  }
  EXPECT_NE(table.error[4], "");
  EXPECT_EQ(table.error[1], "");
}

TEST_F(RewardChainTest, TheSumWeighsWhatWasMeasuredAndLeavesOutTheRest) {
  auto chain = Rewards(R"([{"plugin": "plain", "weight": 2}, {"plugin": "grouped", "weight": -1},
                           {"plugin": "count_ids", "weight": 10, "max_error_rate": 1}])");
  data::Sample both = MakeSample(1, 1, "0.25"), none = MakeSample(2, 2, "na");
  both.completion_ids = {7, 8, 9};
  none.completion_ids = {7};
  const RewardTable table = Score(chain, {both, none});
  EXPECT_EQ(table.reward[0], 2 * 0.25 - 0.25 + 10 * 3);
  EXPECT_TRUE(std::isnan(table.reward[1]));  // not applicable to any: null, not 0
}

TEST_F(RewardChainTest, AGateLetsARewardCountWhereAnotherIsPositive) {
  auto chain = Rewards(R"([{"plugin": "count_ids", "weight": 10, "gate": "right"},
                           {"plugin": "plain", "name": "right", "max_error_rate": 1}])");
  std::vector<data::Sample> samples = Alone({"0.5", "0", "-2", "nan"});
  for (data::Sample& sample : samples) sample.completion_ids = {7, 8, 9};
  const RewardTable table = Score(chain, samples);
  EXPECT_THAT(table.reward,
              testing::Pointwise(testing::NanSensitiveDoubleEq(), {30.5, 0.0, -2.0, std::nan("")}));
  for (size_t i = 0; i < samples.size(); ++i) EXPECT_EQ(table.ungated[2 * i], 3) << i;
  EXPECT_EQ(table.score_at(1, 0), 0);
  EXPECT_EQ(table.status_at(1, 0), ScoreStatus::kOk);
  EXPECT_TRUE(std::isnan(table.score_at(3, 0)));  // whether it counts is not known: not 0
  EXPECT_EQ(table.status_at(3, 0), ScoreStatus::kNotApplicable);
  json::Writer out;
  out.BeginObject();
  chain.value().WriteFields(table, 1, out);
  EXPECT_THAT(out.EndObject().Take(),
              AllOf(HasSubstr(R"("rewards":{"count_ids":0)"), HasSubstr(R"("reward":0)"),
                    HasSubstr(R"("ungated":{"count_ids":3)")));
}

TEST_F(RewardChainTest, AGateBehindAGateIsDecidedFirst) {
  auto chain = Rewards(R"([{"plugin": "count_ids", "gate": "b"},
                           {"plugin": "count_ids", "name": "b", "gate": "plain"}, "plain"])");
  data::Sample shut = MakeSample(1, 1, "-1"), open = MakeSample(2, 2, "1");
  shut.completion_ids = open.completion_ids = {7, 8};
  const RewardTable table = Score(chain, {shut, open});
  EXPECT_THAT(table.score, ElementsAre(0, 0, -1, 2, 2, 1));
  EXPECT_FALSE(chain.value().is_gated(2));
}

TEST_F(RewardChainTest, GatesThatCanNotBeDecidedAreRefused) {
  EXPECT_THAT(MessageOf(Rewards(R"([{"plugin": "plain", "gate": "groupd"}, "grouped"])")),
              AllOf(HasSubstr("rewards[0].gate"), HasSubstr("no reward called \"groupd\""),
                    HasSubstr("did you mean \"grouped\"")));
  EXPECT_THAT(MessageOf(Rewards(R"(["grouped", {"plugin": "plain", "gate": "plain"}])")),
              AllOf(HasSubstr("rewards[1].gate"), HasSubstr("its own gate")));
  EXPECT_THAT(MessageOf(Rewards(R"(["grouped", {"plugin": "plain", "name": "a", "gate": "b"},
                                    {"plugin": "plain", "name": "b", "gate": "a"}])")),
              AllOf(HasSubstr("rewards[1].gate"), HasSubstr("circle")));
  EXPECT_THAT(MessageOf(Rewards(R"([{"plugin": "plain", "gate": 3}])")),
              AllOf(HasSubstr("rewards[0].gate"), HasSubstr("must be the name")));
  EXPECT_THAT(MessageOf(Filters(R"([{"plugin": "keep", "gate": "plain"}])")),
              HasSubstr("unknown key \"gate\""));
}

TEST_F(RewardChainTest, AFailedCallLeavesItsBatchUnmeasuredAndTheOthersMeasured) {
  auto chain = Rewards(R"([{"plugin": "by_three", "max_error_rate": 1}])");
  const RewardTable table = Score(chain, Alone({"1", "2", "crash", "4", "5"}));
  EXPECT_THAT(table.status, ElementsAre(ScoreStatus::kError, ScoreStatus::kError,
                                        ScoreStatus::kError, ScoreStatus::kOk, ScoreStatus::kOk));
  EXPECT_THAT(table.error[0], AllOf(HasSubstr("by_three"), HasSubstr("the batch broke")));
  EXPECT_EQ(table.score[3], 4);
}

TEST_F(RewardChainTest, BatchesHaveThePreferredSizeAndGroupsCountFromZero) {
  auto chain = Rewards(R"(["by_three"])");
  std::vector<data::Sample> samples;
  for (uint64_t i = 0; i < 7; ++i) {
    samples.push_back(MakeSample(i + 1, 100 + i / 4, "1", R"({"tell": 1, "answer": "g"})"));
  }
  const RewardTable table = Score(chain, samples);
  EXPECT_EQ(table.info[0], R"({"n":3,"group":0,"index":0,"gold":"g"})");
  EXPECT_EQ(table.info[3], R"({"n":3,"group":0,"index":3,"gold":"g"})");
  EXPECT_EQ(table.info[4], R"({"n":3,"group":1,"index":0,"gold":"g"})");
  EXPECT_EQ(table.info[6], R"({"n":1,"group":0,"index":2,"gold":"g"})");
}

TEST_F(RewardChainTest, AGroupwiseRewardGetsWholeGroupsOnly) {
  auto chain = Rewards(R"(["grouped"])");  // prefers 3 a call
  std::vector<data::Sample> samples;
  const std::vector<uint64_t> sizes = {2, 2, 5, 1};
  for (uint64_t g = 0; g < sizes.size(); ++g) {
    for (uint64_t i = 0; i < sizes[g]; ++i) {
      samples.push_back(MakeSample(samples.size() + 1, g, "1", R"({"tell": 1})"));
    }
  }
  const RewardTable table = Score(chain, samples);
  std::vector<std::string> batch_of_group;
  for (const size_t first : {size_t{0}, size_t{2}, size_t{4}, size_t{9}}) {
    batch_of_group.push_back(table.info[first].substr(0, 6));
  }
  EXPECT_THAT(batch_of_group, ElementsAre("{\"n\":2", "{\"n\":2", "{\"n\":5", "{\"n\":1"));
}

TEST_F(RewardChainTest, GoldIsTheRecordsAnswerWhateverItsType) {
  auto chain = Rewards(R"(["plain"])");
  const RewardTable table = Score(chain, {MakeSample(1, 1, "1", R"({"tell": 1, "answer": 42})"),
                                          MakeSample(2, 2, "1", R"({"tell": 1, "answer": null})")});
  EXPECT_THAT(table.info[0], HasSubstr(R"("gold":"42")"));
  EXPECT_THAT(table.info[1], HasSubstr(R"("gold":"")"));
}

TEST_F(RewardChainTest, AnswerClassesAreByGroup) {
  auto chain = Rewards(R"(["plain", {"plugin": "voter", "max_error_rate": 1}])");
  const RewardTable table =
      Score(chain, {MakeSample(1, 1, "7"), MakeSample(2, 1, "8"), MakeSample(3, 1, "7"),
                    MakeSample(4, 2, "7"), MakeSample(5, 2, "")});
  EXPECT_THAT(table.first_equal, ElementsAre(0, 1, 0, 0, -1));
}

TEST_F(RewardChainTest, TheFuseStopsAboveItsRateOnceEnoughWereSeen) {
  auto chain = Rewards(R"([{"plugin": "plain", "max_error_rate": 0.02}])");
  std::vector<std::string> few(50, "1");
  few[0] = "error";
  EXPECT_TRUE(chain.value().Score(Alone(few), {}).ok());  // 1 of 50: too few to judge
  std::vector<std::string> more(64, "1");
  more[1] = more[2] = "error";
  const Result<RewardTable> blown = chain.value().Score(Alone(more), {});
  EXPECT_EQ(blown.status().code(), Code::kAborted);
  EXPECT_THAT(MessageOf(blown), AllOf(HasSubstr("3 of 114"), HasSubstr("reward plain"),
                                      HasSubstr("0000000000000001"), HasSubstr("2%")));
}

TEST_F(RewardChainTest, TheFuseIsLookedAtOnceMoreAtTheEnd) {
  auto chain = Rewards(R"(["plain"])");
  EXPECT_TRUE(chain.value().Score(Alone({"1", "error"}), {}).ok());
  EXPECT_EQ(chain.value().Finish().code(), Code::kAborted);
  auto patient = Rewards(R"([{"plugin": "plain", "max_error_rate": 0.5}])");
  EXPECT_TRUE(patient.value().Score(Alone({"1", "error"}), {}).ok());
  EXPECT_TRUE(patient.value().Finish().ok());
}

TEST_F(RewardChainTest, OnErrorFailEndsWithTheFirstError) {
  auto chain = Rewards(R"([{"plugin": "plain", "on_error": "fail"}])");
  const Result<RewardTable> table = chain.value().Score(Alone({"1", "error"}), {});
  EXPECT_EQ(table.status().code(), Code::kAborted);
  EXPECT_THAT(MessageOf(table), HasSubstr("sample 0000000000000002"));
}

TEST_F(RewardChainTest, ACancelStopsBetweenBatches) {
  auto chain = Rewards(R"(["plain"])");
  engine::Cancel cancel{1};
  call_.cancel = &cancel;
  EXPECT_EQ(chain.value().Score(Alone({"1"}), call_).status().code(), Code::kCancelled);
}

TEST_F(RewardChainTest, IdsAreNeededAndThereIsNoTokenizer) {
  auto chain = Rewards(R"(["count_ids"])");
  EXPECT_TRUE(chain.value().needs_ids());
  EXPECT_THAT(MessageOf(chain.value().Score(Alone({"1"}), {})),
              AllOf(HasSubstr("no token ids"), HasSubstr("tokenizer")));
}

TEST_F(RewardChainTest, FieldsSayNullForWhatWasNotMeasured) {
  auto chain = Rewards(R"([{"plugin": "plain", "max_error_rate": 1, "weight": 2}])");
  const RewardTable table = Score(chain, Alone({"0.5", "error"}));
  json::Writer first, second;
  chain->WriteFields(table, 0, first.BeginObject());
  chain->WriteFields(table, 1, second.BeginObject());
  EXPECT_EQ(first.EndObject().text(),
            R"({"rewards":{"plain":0.5},"status":{"plain":"ok"},"reward":1.0})");
  EXPECT_EQ(second.EndObject().text(),
            R"({"rewards":{"plain":null},"status":{"plain":"error"},"reward":null})");
}

struct BadChain {
  const char* entries;
  const char* in_message;
  Code code = Code::kInvalidArgument;
};

class BadRewardChain : public ChainTest, public testing::WithParamInterface<BadChain> {};

TEST_P(BadRewardChain, IsRefusedByName) {
  const Result<RewardChain> chain = Rewards(GetParam().entries);
  EXPECT_EQ(chain.status().code(), GetParam().code) << chain.status().ToString();
  EXPECT_THAT(MessageOf(chain), HasSubstr(GetParam().in_message));
}

INSTANTIATE_TEST_SUITE_P(
    Rules, BadRewardChain,
    testing::Values(
        BadChain{R"([{"plugin": "plain", "wieght": 1}])", "did you mean \"weight\"?"},
        BadChain{R"([{"plugin": "plain", "isolate": 1}])", "rewards[0].isolate: must be true"},
        BadChain{R"([{"plugin": "plain", "timeout_ms": 5}])", "(it is built in)"},
        BadChain{R"([{"plugin": "plain", "isolate": false, "timeout_ms": 5}])",
                 "rewards[0].timeout_ms: only a plugin in a worker"},
        BadChain{R"([{"plugin": "plain", "timeout_ms": 0}])", "between 1 and"},
        BadChain{R"([{"plugin": "plain", "timeout_ms": 1.5}])", "rewards[0].timeout_ms"},
        BadChain{R"(["plain", "plain"])", "a second reward called \"plain\""},
        BadChain{R"(["filter/script"])", "is no reward"},
        BadChain{R"([7])", "rewards[0]: must be a plugin's id"},
        BadChain{R"([{"weight": 1}])", "needs \"plugin\""},
        BadChain{R"([{"plugin": "plain", "max_error_rate": 2}])", "between 0 and 1"},
        BadChain{R"([{"plugin": "plain", "on_error": "ignore"}])", "\"skip\" or \"fail\""},
        BadChain{R"([{"plugin": "plain", "config": {"x": 1}}])", "x"},
        BadChain{R"(["plian"])", "plain", Code::kNotFound}));

TEST_F(RewardChainTest, NamesOfTheirOwnTellTwoEntriesOfOnePluginApart) {
  auto chain = Rewards(R"([{"plugin": "plain", "name": "a"}, {"plugin": "reward/plain"}])");
  ASSERT_TRUE(chain.ok()) << chain.status().ToString();
  EXPECT_THAT(chain->names(), ElementsAre("a", "plain"));
}

TEST_F(RewardChainTest, IsolateFalseIsHowThingsAre) {
  EXPECT_TRUE(Rewards(R"([{"plugin": "plain", "isolate": false}])").ok());
}

TEST_F(RewardChainTest, CountsTellErrorsFromTimeouts) {
  auto chain = Rewards(R"([{"plugin": "plain", "max_error_rate": 1}])");
  ASSERT_TRUE(chain.ok());
  ASSERT_TRUE(chain->Score(Alone({"1", "na", "error", "timeout", "timeout"}), call_).ok());
  const RewardCounts counts = chain->counts()[0];
  EXPECT_EQ(counts.n_ok, 1u);
  EXPECT_EQ(counts.n_not_applicable, 1u);
  EXPECT_EQ(counts.n_errors, 1u);
  EXPECT_EQ(counts.n_timeouts, 2u);
  std::string line;
  call_.log = [&line](int32_t, std::string_view text) { line = text; };
  chain->LogFailures(call_);
  EXPECT_THAT(line, HasSubstr("reward plain: 1 errors and 2 timeouts on 5 samples"));
}

}  // namespace
}  // namespace retort::host
