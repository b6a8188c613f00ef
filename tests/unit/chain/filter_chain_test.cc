// The filter chain against probe plugins that do what each completion says.
// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/chain/chain_fixture.h"

namespace retort::host {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class FilterChainTest : public ChainTest {
 protected:
  FilterOutcome Run(const std::string& entries, std::vector<data::Sample> samples) {
    Result<FilterChain> chain = Filters(entries);
    EXPECT_TRUE(chain.ok()) << chain.status().ToString();
    Result<FilterOutcome> outcome = chain.value().Run(std::move(samples), call_);
    EXPECT_TRUE(outcome.ok()) << outcome.status().ToString();
    counts_ = chain->counts();
    return std::move(outcome).value();
  }
  std::vector<FilterCounts> counts_;
};

std::vector<std::string> Texts(const FilterOutcome& outcome) {
  std::vector<std::string> texts;
  for (const data::Sample& sample : outcome.kept) texts.push_back(sample.completion);
  return texts;
}

TEST_F(FilterChainTest, AnEmptyChainKeepsEverything) {
  EXPECT_THAT(Texts(Run("[]", Alone({"a", "b"}))), ElementsAre("a", "b"));
}

TEST_F(FilterChainTest, EveryDropIsInTheAuditWithItsReason) {
  const FilterOutcome outcome = Run(R"(["script"])", Alone({"keep", "drop:too long", "keep too"}));
  EXPECT_THAT(Texts(outcome), ElementsAre("keep", "keep too"));
  EXPECT_THAT(outcome.input, ElementsAre(0u, 2u));
  ASSERT_THAT(outcome.audit, SizeIs(1));
  EXPECT_EQ(outcome.audit[0].ToJson(),
            R"({"uid":"0000000000000002","plugin":"script","reason":"too long"})");
  EXPECT_EQ(outcome.audit[0].input, 1u);
}

TEST_F(FilterChainTest, ARewrittenSampleLosesIdsAndScoresAndGoesOnAfterTheFilter) {
  std::vector<data::Sample> samples = Alone({"rewrite:drop:by the next", "rewrite:rewrite:x"});
  for (data::Sample& sample : samples) {
    sample.prompt_ids = {1};
    sample.completion_ids = {2, 3};
    sample.logp = {-1, -2};
    sample.n_prefix = 1;
    sample.tokenizer = "hash";
    sample.rewards = {{"old", 1.0}};
  }
  const FilterOutcome outcome = Run(R"(["script", "script"])", std::move(samples));
  ASSERT_THAT(Texts(outcome), ElementsAre("x"));  // each filter saw what the one before it wrote
  EXPECT_THAT(outcome.audit, SizeIs(1));
  EXPECT_EQ(outcome.audit[0].reason, "by the next");
  EXPECT_THAT(outcome.rewritten, ElementsAre(1));
  const data::Sample& kept = outcome.kept[0];
  EXPECT_TRUE(kept.prompt_ids.empty() && kept.completion_ids.empty() && kept.logp.empty());
  EXPECT_TRUE(kept.rewards.empty() && kept.tokenizer.empty() && kept.n_prefix == 0);
  EXPECT_EQ(counts_[0].n_rewritten, 2u);
}

TEST_F(FilterChainTest, ANewRecordMustBeAnObject) {
  const FilterOutcome outcome = Run(R"([{"plugin": "script", "max_error_rate": 1}])",
                                    Alone({R"(record:{"answer": "9"})", "record:[1]", "record:{"}));
  ASSERT_THAT(outcome.kept, SizeIs(1));
  EXPECT_EQ(outcome.kept[0].record, R"({"answer": "9"})");
  EXPECT_THAT(outcome.audit, SizeIs(2));
  EXPECT_TRUE(outcome.audit[0].error && outcome.audit[1].error);
}

TEST_F(FilterChainTest, WhatCannotBeJudgedIsNotKeptAndNotCalledADrop) {
  const FilterOutcome outcome =
      Run(R"([{"plugin": "script", "max_error_rate": 1}])", Alone({"error:no idea", "keep"}));
  EXPECT_THAT(Texts(outcome), ElementsAre("keep"));
  EXPECT_EQ(outcome.audit[0].ToJson(),
            R"({"uid":"0000000000000001","plugin":"script","reason":"no idea","error":true})");
  EXPECT_EQ(counts_[0].n_errors, 1u);
  EXPECT_EQ(counts_[0].n_dropped, 0u);
}

TEST_F(FilterChainTest, AFailedCallMakesErrorsOfItsSamples) {
  const FilterOutcome outcome =
      Run(R"([{"plugin": "script", "max_error_rate": 1}])", Alone({"keep", "crash"}));
  EXPECT_THAT(outcome.kept, IsEmpty());
  ASSERT_THAT(outcome.audit, SizeIs(2));
  EXPECT_THAT(outcome.audit[0].reason, HasSubstr("the batch broke"));
}

TEST_F(FilterChainTest, OnErrorFailAndTheFuseStopTheChain) {
  auto strict = Filters(R"([{"plugin": "script", "on_error": "fail"}])");
  EXPECT_EQ(strict.value().Run(Alone({"error:x"}), call_).status().code(), Code::kAborted);
  auto fused = Filters(R"(["script"])");
  EXPECT_TRUE(fused.value().Run(Alone({"keep", "error:x"}), call_).ok());
  EXPECT_THAT(fused->Finish().message(), AllOf(HasSubstr("1 of 2"), HasSubstr("x")));
}

TEST_F(FilterChainTest, AnEntrysRewardsAreScoredFirstAndHandedOver) {
  const FilterOutcome outcome = Run(
      R"([{"plugin": "report", "rewards": [{"plugin": "plain", "weight": 3, "max_error_rate": 1},
                                           "voter"]}])",
      {MakeSample(1, 1, "7", R"({"tell": 1})"), MakeSample(2, 1, "7"), MakeSample(3, 2, "8")});
  ASSERT_THAT(outcome.audit, SizeIs(3));
  EXPECT_EQ(outcome.audit[0].reason, "plain=7/0*3 info voter=7/0*1 info class=0 groups=2");
  EXPECT_EQ(outcome.audit[1].reason, "plain=7/0*3 voter=7/0*1 class=0 groups=2");
  EXPECT_EQ(outcome.audit[2].reason, "plain=8/0*3 voter=8/0*1 class=0 groups=2");
}

TEST_F(FilterChainTest, WithoutRewardsAFilterGetsNone) {
  EXPECT_EQ(Run(R"(["report"])", Alone({"7"})).audit[0].reason, "groups=1");
}

TEST_F(FilterChainTest, KeptSamplesCarryTheScores) {
  const FilterOutcome outcome =
      Run(R"([{"plugin": "script", "rewards": [{"plugin": "plain", "max_error_rate": 1}]}])",
          Alone({"0.5", "na"}));
  ASSERT_THAT(outcome.kept, SizeIs(2));
  EXPECT_EQ(outcome.kept[0].rewards[0].value, 0.5);
  EXPECT_EQ(outcome.kept[1].rewards[0].value, std::nullopt);
}

TEST_F(FilterChainTest, ObservePassesSeeAllThatReachesTheEntryBeforeTheFirstJudgement) {
  // The drop before it leaves lengths 1, 2, 9: a mean of 4.
  std::vector<std::string> texts(300, "drop:x");
  texts[0] = "a";
  texts[150] = "bb";
  texts[299] = "ccccccccc";
  const FilterOutcome outcome = Run(R"(["script", "above_mean"])", Alone(texts));
  EXPECT_THAT(Texts(outcome), ElementsAre("ccccccccc"));
  EXPECT_FALSE(Filters(R"(["above_mean"])").value().streams());
  EXPECT_TRUE(Filters(R"(["script"])").value().streams());
}

TEST_F(FilterChainTest, FlagsThatNeedRewardsAreCheckedAtOnce) {
  EXPECT_THAT(MessageOf(Filters(R"(["needs_scores"])")), HasSubstr("\"rewards\""));
  EXPECT_THAT(MessageOf(Filters(R"([{"plugin": "needs_answers", "rewards": ["plain"]}])")),
              HasSubstr("answers"));
  EXPECT_TRUE(Filters(R"([{"plugin": "needs_answers", "rewards": ["voter"]}])").ok());
}

TEST_F(FilterChainTest, ErrorsNameThePlaceInTheChain) {
  EXPECT_THAT(MessageOf(Filters(R"(["script", {"plugin": "report", "rewards": [{}]}])")),
              HasSubstr("filters[1].rewards[0]"));
  EXPECT_THAT(MessageOf(Filters(R"([{"plugin": "script", "weight": 2}])")),
              HasSubstr("unknown key \"weight\""));
}

TEST_F(FilterChainTest, ACancelStopsIt) {
  engine::Cancel cancel{1};
  call_.cancel = &cancel;
  auto chain = Filters(R"(["script"])");
  EXPECT_EQ(chain.value().Run(Alone({"a"}), call_).status().code(), Code::kCancelled);
}

}  // namespace
}  // namespace retort::host
