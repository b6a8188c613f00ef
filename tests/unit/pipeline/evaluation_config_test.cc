// Keys of evaluation within stages that train.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "host/pipeline/config/config.h"

namespace retort::host {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Result<PipelineConfig> Parse(const std::string& kind, const std::string& keys) {
  return ParsePipeline(R"({
    "retort": 1, "name": "demo", "models": {"m": "/m"}, "data": {"d": "d.jsonl", "held": "h.jsonl"},
    "stages": [
      {"name": "made", "kind": "generate", "model": "m", "data": "held"},
      {"name": "s", "model": "m", "data": "d", "chat": {"system": "be brief"}, "kind": ")" +
                           kind + "\", " + keys + "}]}",
                       "/pipes/p.json", {});
}

EvaluationConfig Of(const std::string& kind, const std::string& keys) {
  const auto config = Parse(kind, keys);
  EXPECT_TRUE(config.ok()) << config.status().ToString();
  return config.ok() ? config->stages[1].training()->evaluation : EvaluationConfig{};
}

std::string ErrorOf(const std::string& keys) {
  const auto config = Parse("sft", keys);
  EXPECT_FALSE(config.ok());
  return config.ok() ? "" : config.status().message();
}

TEST(EvaluationConfig, NothingByDefault) {
  const EvaluationConfig e = Of("sft", R"("epochs": 1)");
  EXPECT_TRUE(e.empty());
  EXPECT_EQ(e.metric, "");
}

TEST(EvaluationConfig, LossIsTheMetricOfTheBest) {
  const EvaluationConfig e =
      Of("sft", R"("eval_data": "@made", "eval_steps": 10, "load_best_model_at_end": true)");
  EXPECT_EQ(e.steps, 10);
  ASSERT_EQ(e.data.size(), 1U);
  EXPECT_EQ(e.data[0].stage, "made");
  EXPECT_FALSE(e.task);
  EXPECT_EQ(e.metric, "eval_loss");
  EXPECT_FALSE(e.greater_is_better);
}

TEST(EvaluationConfig, StageDependsOnWhatItIsEvaluatedOn) {
  const auto config = Parse("sft", R"("eval_data": "@made")");
  ASSERT_TRUE(config.ok());
  EXPECT_THAT(config->stages[1].inputs, ElementsAre("made"));
}

TEST(EvaluationConfig, NamesMayLackTheirPrefixAndGrowByName) {
  EvaluationConfig e = Of("sft", R"("eval_data": "held", "metric_for_best_model": "sft/entropy")");
  EXPECT_EQ(e.metric, "eval_sft/entropy");
  EXPECT_TRUE(e.greater_is_better);
  EXPECT_FALSE(e.load_best);
  e = Of("sft", R"("eval_data": "held", "metric_for_best_model": "sft/entropy",
                   "greater_is_better": false)");
  EXPECT_FALSE(e.greater_is_better);
}

TEST(EvaluationConfig, AnswersOfASupervisedStage) {
  const EvaluationConfig e = Of("sft", R"("eval": {"data": {"data": "held", "limit": 8},
      "rewards": ["number_match"], "samples": 4}, "load_best_model_at_end": true)");
  ASSERT_TRUE(e.task);
  EXPECT_TRUE(e.data.empty());
  EXPECT_EQ(e.task->samples, 4);
  EXPECT_EQ(e.task->sampling.temperature, 0);
  EXPECT_EQ(e.task->chat.system, "be brief");
  EXPECT_EQ(e.task->rewards.key_path, "stages.s.eval.rewards");
  EXPECT_EQ(e.metric, "eval_reward");
  EXPECT_TRUE(e.greater_is_better);
}

TEST(EvaluationConfig, PolicyIsEvaluatedAsItIsTrained) {
  const std::string stage = R"("rewards": ["number_match"], "prefix": "<think>",
      "sampling": {"max_tokens": 32}, "eval_data": "held")";
  EvaluationConfig e = Of("grpo", stage);
  ASSERT_TRUE(e.task);
  EXPECT_TRUE(e.data.empty());
  ASSERT_EQ(e.task->data.size(), 1U);
  EXPECT_EQ(e.task->data[0].text, "held");
  EXPECT_EQ(e.task->prefix, "<think>");
  EXPECT_EQ(e.task->sampling.max_tokens, 32);
  EXPECT_EQ(e.task->sampling.temperature, 1);
  EXPECT_THAT(e.task->rewards.json, HasSubstr("number_match"));
  e = Of("grpo", stage + R"(, "eval": {"sampling": {"temperature": 0}, "samples": 3})");
  EXPECT_EQ(e.task->sampling.temperature, 0);
  EXPECT_EQ(e.task->samples, 3);
  EXPECT_EQ(e.task->prefix, "<think>");
}

TEST(EvaluationConfig, WrongOnesAreToldApart) {
  EXPECT_THAT(ErrorOf(R"("eval_steps": 5)"), HasSubstr("nothing is evaluated"));
  EXPECT_THAT(ErrorOf(R"("load_best_model_at_end": true)"), HasSubstr("nothing is evaluated"));
  EXPECT_THAT(ErrorOf(R"("eval_data": "held", "metric_for_best_model": "reward")"),
              HasSubstr("no rewards are evaluated"));
  EXPECT_THAT(ErrorOf(R"("eval_data": "held", "greater_is_better": true)"),
              HasSubstr("metric_for_best_model"));
  EXPECT_THAT(ErrorOf(R"("eval": {"data": "held"})"),
              HasSubstr("stages.s.eval.rewards: is needed"));
  EXPECT_THAT(ErrorOf(R"("eval_dataset": "held")"), HasSubstr("here it is called eval_data"));
  EXPECT_THAT(ErrorOf(R"("eval_data": "helt")"), HasSubstr("eval_data"));
}

}  // namespace
}  // namespace retort::host
