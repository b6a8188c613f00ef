// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/json/json.h"

namespace retort::host {
namespace {

using testing::HasSubstr;

std::vector<ScoreRow> Rows() {
  return {{.model = "base", .task = "t", .metric = "pass@1", .estimate = Proportion(1, 4)},
          {.model = "base",
           .task = "t",
           .metric = "loglik(x)",
           .estimate = {.value = -1.5, .low = -2, .high = -1, .n = 4}},
          {.model = "@sft", .task = "t", .metric = "pass@1", .estimate = Proportion(3, 4)}};
}

TEST(Scores, ComeBackAsWritten) {
  const auto read = ReadScores(WriteScores(Rows()), "scores.json");
  ASSERT_TRUE(read.ok());
  ASSERT_EQ(read->size(), 3u);
  EXPECT_EQ((*read)[1].metric, "loglik(x)");
  EXPECT_EQ((*read)[1].estimate.low, -2);
  EXPECT_EQ((*read)[2].estimate.n, 4);
}

TEST(Scores, TableHasModelsDownAndMetricsAcross) {
  const std::string table = ScoreTable(Rows());
  EXPECT_THAT(table, HasSubstr("pass@1"));
  EXPECT_THAT(table, HasSubstr("-1.5 [-2, -1]"));
  EXPECT_THAT(table, testing::ContainsRegex("@sft +0.75 ."));
  EXPECT_THAT(table, testing::ContainsRegex("@sft .* -\n"));
}

TEST(Report, TellsSecondsTokensAndRate) {
  StageReport sft = {.name = "sft", .kind = "sft"};
  sft.numbers.Set("seconds", 12.5);
  sft.numbers.Set("tokens", 5000);
  sft.numbers.Set("step_seconds", 10);
  sft.numbers.Set("steps", 20);
  const RunReport report = MakeReport({sft}, "runs/x");
  EXPECT_THAT(report.text, HasSubstr("5,000"));
  EXPECT_THAT(report.text, HasSubstr("500"));
  EXPECT_THAT(report.text, HasSubstr("12.5"));
  const auto json = json::Document::Parse(report.json, "report");
  ASSERT_TRUE(json.ok());
  EXPECT_EQ(json->root()["stages"][0]["tokens_per_second"].DoubleOr(0), 500);
}

TEST(StageNumbers, AddUpOverContinuations) {
  StageNumbers numbers = StageNumbers::FromJson(R"({"tokens":5,"x":"y"})");
  numbers.Add("tokens", 2);
  EXPECT_EQ(numbers.Get("tokens"), 7);
  EXPECT_EQ(numbers.Get("x"), 0);
  EXPECT_EQ(StageNumbers::FromJson("torn{").ToJson(), "{}");
}

}  // namespace
}  // namespace retort::host
