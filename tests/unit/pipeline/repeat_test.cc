// Stages of kind "repeat": what their rounds are, what their references mean, what is refused.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "host/pipeline/config/config.h"

namespace retort::host {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kBody = R"(
      {"name": "write", "kind": "generate", "data": "d",
       "model": {"first": "student", "then": "@sft"}},
      {"name": "keep", "kind": "filter", "data": "@write", "filters": ["length"]},
      {"name": "sft", "kind": "sft", "model": "student",
       "data": ["@keep", {"first": null, "then": "@keep"}], "max_length": 100,
       "learning_rate": {"first": 1e-3, "then": 1e-4}})";

Result<PipelineConfig> Parse(const std::string& body, const std::string& more = "",
                             const std::string& times = "3", const Overrides& overrides = {}) {
  return ParsePipeline(R"({"retort": 1, "name": "x", "models": {"student": "m/s"},
    "data": {"d": "d.jsonl"}, "stages": [
    {"name": "rounds", "kind": "repeat", "times": )" +
                           times + R"(, "stages": [)" + body + "]}" + more + "]}",
                       "/pipes/p.json", overrides);
}
std::string ErrorOf(const std::string& body, const std::string& more = "",
                    const std::string& times = "3") {
  const Result<PipelineConfig> config = Parse(body, more, times);
  EXPECT_FALSE(config.ok()) << body << more;
  return config.ok() ? "" : config.status().message();
}

std::vector<std::string> TextsOf(const std::vector<DataRef>& refs) {
  std::vector<std::string> texts;
  for (const DataRef& ref : refs) texts.push_back(ref.text);
  return texts;
}

TEST(Repeat, RoundsAreStagesWithReferencesToTheirOwnRoundAndTheOneBefore) {
  const auto config = Parse(kBody, R"(, {"name": "score", "kind": "eval",
      "models": ["@rounds.sft", "@rounds.1.sft"], "tasks": [{"data": "d"}]})");
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  std::vector<std::string> names;
  for (const StageConfig& stage : config->stages) names.push_back(stage.name);
  EXPECT_THAT(names, ElementsAre("rounds.1.write", "rounds.1.keep", "rounds.1.sft",
                                 "rounds.2.write", "rounds.2.keep", "rounds.2.sft",
                                 "rounds.3.write", "rounds.3.keep", "rounds.3.sft", "score"));
  const auto& stages = config->stages;
  EXPECT_EQ(stages[0].generate.model.text, "student");
  EXPECT_EQ(stages[3].generate.model.text, "@rounds.1.sft");
  EXPECT_EQ(stages[6].generate.model.stage, "rounds.2.sft");
  EXPECT_THAT(TextsOf(stages[2].sft.data), ElementsAre("@rounds.1.keep"));
  EXPECT_THAT(TextsOf(stages[8].sft.data), ElementsAre("@rounds.3.keep", "@rounds.2.keep"));
  EXPECT_EQ(stages[2].sft.learning_rate, 1e-3);
  EXPECT_EQ(stages[5].sft.learning_rate, 1e-4);
  EXPECT_THAT(stages[5].inputs, ElementsAre("rounds.2.keep", "rounds.1.keep"));
  EXPECT_EQ(stages[9].eval.models[0].text, "@rounds.3.sft");
  EXPECT_EQ(stages[9].eval.models[1].text, "@rounds.1.sft");
}

// More rounds leave those before them what they were: they need not run again.
TEST(Repeat, MoreRoundsChangeNoEarlierOne) {
  const auto two = Parse(kBody, "", "2"), three = Parse(kBody, "", "3");
  ASSERT_TRUE(two.ok() && three.ok());
  for (size_t i = 0; i < two->stages.size(); ++i) {
    EXPECT_EQ(two->stages[i].resolved, three->stages[i].resolved) << i;
  }
  EXPECT_NE(three->stages[3].resolved, three->stages[6].resolved);
}

TEST(Repeat, AllStandsForTheRoundsSoFar) {
  const auto config = Parse(R"(
      {"name": "write", "kind": "generate", "data": "d", "model": "student"},
      {"name": "sft", "kind": "sft", "model": "student", "data": [{"all": "@write"}, "d"]})");
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_THAT(TextsOf(config->stages[1].sft.data), ElementsAre("@rounds.1.write", "d"));
  EXPECT_THAT(TextsOf(config->stages[5].sft.data),
              ElementsAre("@rounds.1.write", "@rounds.2.write", "@rounds.3.write", "d"));
}

TEST(Repeat, AllMayStandForAWholeList) {
  const auto config = Parse(R"(
      {"name": "write", "kind": "generate", "data": "d", "model": "student"},
      {"name": "sft", "kind": "sft", "model": "student", "data": {"all": "@write"}})",
                            "", "2");
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_THAT(TextsOf(config->stages[1].sft.data), ElementsAre("@rounds.1.write"));
  EXPECT_THAT(TextsOf(config->stages[3].sft.data),
              ElementsAre("@rounds.1.write", "@rounds.2.write"));
}

TEST(Repeat, ReferencesInTasksAndDataEntriesAreTheRounds) {
  const auto config = Parse(R"(
      {"name": "write", "kind": "generate", "data": "d", "model": "student"},
      {"name": "score", "kind": "eval", "models": ["student"], "tasks": [
        {"data": {"data": "@write", "limit": 2}, "name": "@write"}]})");
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  const EvalTask& task = config->stages[3].eval.tasks[0];
  EXPECT_EQ(task.data[0].text, "@rounds.2.write");
  EXPECT_EQ(task.name, "@write");  // a name is none
}

TEST(Repeat, WhatIsEvaluatedIsOfTheRoundToo) {
  const auto config = Parse(R"(
      {"name": "write", "kind": "generate", "data": "d", "model": "student"},
      {"name": "sft", "kind": "sft", "model": "student", "data": "d", "eval_data": "@write",
       "eval_steps": 5},
      {"name": "rl", "kind": "grpo", "model": "@sft", "data": "d", "eval_data": "@write",
       "rewards": ["number_match", {"model": "@sft"}], "max_steps": 1})",
                            "", "2");
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_THAT(TextsOf(config->stages[4].sft.evaluation.data), ElementsAre("@rounds.2.write"));
  const GrpoStage& grpo = config->stages[5].grpo;
  EXPECT_THAT(TextsOf(grpo.evaluation.task->data), ElementsAre("@rounds.2.write"));
  EXPECT_EQ(grpo.rewards.models.count("@rounds.2.sft"), 1U);
}

TEST(Repeat, AConfigOfAPluginIsItsOwn) {
  const auto config = Parse(R"({"name": "keep", "kind": "filter", "data": "d", "filters": [
      {"plugin": "length", "config": {"first": 1, "data": "@keep"}}]})");
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_THAT(config->stages[1].filter.filters.json,
              HasSubstr(R"("config":{"first":1,"data":"@keep"})"));
}

TEST(Repeat, KeysOfTheBodyCanBeSet) {
  const auto config = Parse(
      kBody, "", "3", {.set = {"stages.rounds.times=2", "stages.rounds.stages.sft.epochs=2"}});
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  ASSERT_EQ(config->stages.size(), 6U);
  EXPECT_EQ(config->stages[2].sft.epochs, 2);
  EXPECT_EQ(config->stages[5].sft.epochs, 2);
}

TEST(Repeat, WhatARepeatStageMayNotSay) {
  EXPECT_THAT(ErrorOf(kBody, "", "0"), HasSubstr("stages.rounds.times: 0 is below 1"));
  EXPECT_THAT(ErrorOf(kBody, "", "101"), HasSubstr("101 is above 100"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("stages.rounds.stages: is an empty list"));
  EXPECT_THAT(ErrorOf("3"), HasSubstr("must be an object, not a number"));
  EXPECT_THAT(ErrorOf(R"({"kind": "sft"})"), HasSubstr("stages.rounds.stages.name: is needed"));
  EXPECT_THAT(ErrorOf(R"({"name": "a b", "kind": "sft"})"),
              AllOf(HasSubstr("stages.rounds.stages.a b"), HasSubstr("letters, digits")));
  EXPECT_THAT(
      ErrorOf(R"({"name": "in", "kind": "repeat", "times": 2, "stages": []})"),
      AllOf(HasSubstr("stages.rounds.stages.in.kind"), HasSubstr("can't stand in a repeat")));
  EXPECT_THAT(ErrorOf(kBody, R"(, {"name": "sft", "kind": "eval"})"),
              HasSubstr("stages.sft: there is an earlier stage of this name"));
  EXPECT_THAT(ErrorOf(kBody, R"(, {"name": "rounds.1.sft", "kind": "eval"})"),
              HasSubstr("a stage's name has letters"));
  const auto unknown = ParsePipeline(R"({"retort": 1, "name": "x", "stages": [
      {"name": "r", "kind": "repeat", "times": 1, "stage": []}]})",
                                     "p.json", {});
  EXPECT_THAT(unknown.status().message(), HasSubstr("did you mean 'stages'?"));
}

TEST(Repeat, ReferencesThatLeadNowhere) {
  const char* kScore =
      R"(, {"name": "score", "kind": "eval", "tasks": [{"data": "d"}], "models": )";
  EXPECT_THAT(
      ErrorOf(kBody, std::string(kScore) + R"("@rounds"})"),
      AllOf(HasSubstr("'@rounds'"), HasSubstr("name one of its stages"), HasSubstr("p.json:")));
  EXPECT_THAT(ErrorOf(kBody, std::string(kScore) + R"("@rounds.sfd"})"),
              HasSubstr("'@rounds.3.sfd': there is no such stage; did you mean 'rounds.3.sft'?"));
  EXPECT_THAT(ErrorOf(kBody, std::string(kScore) + R"("@rounds.4.sft"})"),
              HasSubstr("there is no such stage"));
  EXPECT_THAT(ErrorOf(kBody, std::string(kScore) + R"("@sft"})"), HasSubstr("no such stage"));
  EXPECT_THAT(ErrorOf(R"({"name": "write", "kind": "generate", "data": "d", "model": "@sft"},
      {"name": "sft", "kind": "sft", "model": "student", "data": "@write"})"),
              HasSubstr("'@rounds.1.sft' comes later"));
  EXPECT_THAT(ErrorOf(R"({"name": "sft", "kind": "sft", "model": {"first": "student"},
      "data": "d"})"),
              HasSubstr("stages.rounds.stages.sft.model: a choice by the round has"));
  EXPECT_THAT(ErrorOf(R"({"name": "sft", "kind": "sft", "model": "student",
      "data": [{"all": "d"}]})"),
              HasSubstr("stages.rounds.stages.sft.data: \"all\" stands alone"));
}

// A mistake in the body is told once, not once a round.
TEST(Repeat, AMistakeIsToldOnce) {
  const std::string error = ErrorOf(R"({"name": "sft", "kind": "sft", "model": "studend",
      "data": "d", "epochs": {"first": 1, "then": 2}})");
  EXPECT_EQ(std::count(error.begin(), error.end(), '\n'), 0) << error;
  EXPECT_THAT(error, AllOf(HasSubstr("p.json:3:"), HasSubstr("stages.rounds.1.sft.model"),
                           HasSubstr("did you mean 'student'?")));
  const std::string later = ErrorOf(R"({"name": "sft", "kind": "sft", "model": "student",
      "data": "d", "epochs": {"first": 1, "then": -2}})");
  EXPECT_EQ(std::count(later.begin(), later.end(), '\n'), 0) << later;
  EXPECT_THAT(later, HasSubstr("stages.rounds.2.sft.epochs"));
}

}  // namespace
}  // namespace retort::host
