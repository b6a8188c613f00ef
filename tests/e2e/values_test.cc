// What a value head is for, as a user runs it: PPO beside the policy; reward models and what they
// score; stopped, killed, gone on.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <regex>
#include <string>
#include <vector>

#include "core/io/safetensors.h"
#include "tests/golden/program.h"

namespace retort::golden {
namespace {
using testing::Each;
using testing::Gt;
using testing::HasSubstr;
using testing::IsNull;
using testing::NotNull;

constexpr const char* kPipeline = R"({
  "retort": 1, "name": "values", "seed": 3, "threads": 1,
  "models": {"m": "MODEL"},
  "data": {"refs": {"path": "DATA", "map": {"prompt": "question", "completion": "answer"}},
           "pairs": "pairs.jsonl"},
  "stages": [STAGES],
})";
constexpr const char* kPpo = R"(
    {"name": "rl", "kind": "grpo", "algorithm": "ppo", "model": "m", "data": "refs", "limit": 8,
     "num_generations": 2, "prompts_per_step": 4, "num_iterations": 2, "max_steps": 8,
     "kl_coef": 0.05, "mask_truncated_completions": false, "learning_rate": 3e-3, "save_steps": 4,
     "logging_steps": 1, "sampling": {"max_tokens": 16}, "overlong_buffer": 12,
     "rewards": ["number_match"]})";

constexpr const char* kRewardModel = R"(
    {"name": "rm", "kind": "reward_model", "model": "m", "data": "pairs", "max_length": 128,
     "learning_rate": RATE, "max_steps": 24, "batch_tokens": 512, "save_steps": 8,
     "logging_steps": 1 MORE})";
constexpr const char* kLora = R"(, "lora": {"r": 4, "alpha": 8})";

std::string RewardModel(const std::string& more) {
  const std::string text = std::regex_replace(kRewardModel, std::regex(" MORE"), more);
  return std::regex_replace(text, std::regex("RATE"), more == kLora ? "1e-2" : "3e-3");
}

class ValuesTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = ScratchFolder(std::string("values_") +
                            testing::UnitTest::GetInstance()->current_test_info()->name());
  }
  void Write(const std::string& stages, const std::string& model = "qwen2") const {
    std::string text = std::regex_replace(kPipeline, std::regex("STAGES"), stages);
    text = std::regex_replace(text, std::regex("MODEL"), ModelPath(model));
    const std::string data =
        std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/gsm8k/train_small.jsonl";
    WriteText(folder_ + "/pipeline.json", std::regex_replace(text, std::regex("DATA"), data));
    std::string pairs;
    for (int i = 0; i < 24; ++i) {
      const std::string n = std::to_string(i), next = std::to_string(i + 1);
      pairs += R"({"prompt": "after )" + n + R"(? ", "chosen": "it is )" + next +
               R"(", "rejected": "who knows )" + n + "\"}\n";
    }
    WriteText(folder_ + "/pairs.jsonl", pairs);
  }
  std::string Out(const std::string& run) const { return folder_ + "/" + run; }
  Outcome Run(const std::string& run, const char* fault = nullptr) const {
    if (fault != nullptr) setenv("RETORT_FAULT", fault, 1);
    const Outcome outcome =
        RunRetort({"run", folder_ + "/pipeline.json", "--set", "output=" + Out(run)});
    unsetenv("RETORT_FAULT");
    return outcome;
  }
  std::vector<double> Metric(const std::string& run, const char* name) const {
    std::vector<double> values;
    for (const json::Document& line : ReadLines(Out(run) + "/metrics.jsonl")) {
      values.push_back(line.root()[name].DoubleOr(std::nan("")));
    }
    return values;
  }

  std::string folder_;
};

TEST_F(ValuesTest, PpoLearnsValuesAndGoesOnAfterKills) {
  Write(kPpo);
  const Outcome whole = Run("whole");
  ASSERT_EQ(whole.exit_code, 0) << whole.err;
  const std::vector<double> loss = Metric("whole", "ppo/value_loss");
  ASSERT_EQ(loss.size(), 8U);
  EXPECT_THAT(loss, Each(Gt(0)));
  for (size_t round = 0; round < loss.size(); round += 2) {  // a second pass over the same returns
    EXPECT_LT(loss[round + 1], loss[round]) << round;
  }
  const std::string end = Out("whole") + "/rl/checkpoint-8";
  const io::Safetensors weights = io::Safetensors::OpenFolder(end).value();
  ASSERT_THAT(weights.Find("score.weight"), NotNull());
  EXPECT_EQ(weights.Find("score.weight")->shape, (std::vector<int64_t>{1, 32}));
  EXPECT_THAT(ReadText(end + "/config.json"), HasSubstr("Qwen2ForCausalLM"));
  for (const char* fault : {"rollouts.written:3", "checkpoint.written:1", "metrics.line:2"}) {
    EXPECT_EQ(Run("again", fault).exit_code, 128 + SIGKILL) << fault;
  }
  ASSERT_EQ(Run("again").exit_code, 0);
  for (const char* file : {"/rl/checkpoint-8/model.safetensors", "/rl/samples.jsonl"}) {
    EXPECT_TRUE(ReadText(Out("whole") + file) == ReadText(Out("again") + file)) << file;
  }
}

TEST_F(ValuesTest, ARewardModelTellsAnswersApartAndGoesOnAfterKills) {
  for (const char* model : {"qwen2", "llama"}) {  // with a head of its own, and a tied one
    Write(RewardModel(""), model);
    const std::string run = model, again = run + "_again";
    const Outcome whole = Run(run);
    ASSERT_EQ(whole.exit_code, 0) << whole.err;
    const std::vector<double> loss = Metric(run, "loss");
    ASSERT_EQ(loss.size(), 24U);
    EXPECT_LT(loss.back(), 0.3 * loss.front());
    EXPECT_EQ(Metric(run, "bradley_terry/accuracy").back(), 1);
    EXPECT_GT(Metric(run, "bradley_terry/margin").back(), 1);
    const std::string end = Out(run) + "/rm/checkpoint-24";
    const io::Safetensors weights = io::Safetensors::OpenFolder(end).value();
    EXPECT_THAT(weights.Find("score.weight"), NotNull());
    EXPECT_THAT(weights.Find("lm_head.weight"), IsNull());
    const std::string config = ReadText(end + "/config.json");
    EXPECT_THAT(config, HasSubstr("ForSequenceClassification"));
    EXPECT_THAT(config, HasSubstr("\"num_labels\": 1"));
    for (const char* fault : {"checkpoint.state:2", "metrics.line:14"}) {
      EXPECT_EQ(Run(again, fault).exit_code, 128 + SIGKILL) << fault;
    }
    ASSERT_EQ(Run(again).exit_code, 0);
    EXPECT_TRUE(ReadText(end + "/model.safetensors") ==
                ReadText(Out(again) + "/rm/checkpoint-24/model.safetensors"));
    const Outcome generated = RunRetort({"generate", end, "--prompt", "x"});
    EXPECT_THAT(generated.err, HasSubstr("generating: the model is a reward model"));
  }
}

// The head is trained beside the adapter, lies in its file and is found again.
TEST_F(ValuesTest, AnAdapterHasTheHeadWithIt) {
  for (const bool ppo : {false, true}) {
    const std::string ppo_lora = R"("limit": 8, "lora": {"r": 4})";
    Write(ppo ? std::regex_replace(kPpo, std::regex("\"limit\": 8"), ppo_lora)
              : RewardModel(kLora));
    const std::string run = ppo ? "ppo" : "rm", again = run + "_again";
    const Outcome whole = Run(run);
    ASSERT_EQ(whole.exit_code, 0) << whole.err;
    const std::string end = ppo ? "/rl/checkpoint-8" : "/rm/checkpoint-24";
    const std::string weights = end + "/adapter_model.safetensors";
    const io::Safetensors file = io::Safetensors::Open(Out(run) + weights).value();
    ASSERT_THAT(file.Find("base_model.model.score.weight"), NotNull());
    EXPECT_EQ(file.Find("base_model.model.score.weight")->shape, (std::vector<int64_t>{1, 32}));
    EXPECT_THAT(ReadText(Out(run) + end + "/adapter_config.json"),
                HasSubstr(ppo ? "\"CAUSAL_LM\"" : "\"SEQ_CLS\""));
    if (!ppo) {
      EXPECT_LT(Metric(run, "loss").back(), 0.3 * Metric(run, "loss").front());
    }
    for (const char* fault : {"checkpoint.state:1", "metrics.line:6"}) {
      EXPECT_EQ(Run(again, fault).exit_code, 128 + SIGKILL) << fault;
    }
    ASSERT_EQ(Run(again).exit_code, 0);
    EXPECT_TRUE(ReadText(Out(run) + weights) == ReadText(Out(again) + weights)) << run;
  }
}

// Scores of texts by a reward model.
std::vector<double> Scores(const std::string& entry, const std::string& samples) {
  const Outcome scored = RunRetort({"score", "--reward", entry}, samples);
  EXPECT_EQ(scored.exit_code, 0) << scored.err;
  std::vector<double> scores;
  for (const json::Document& line : ParseLines(scored.out, "score")) {
    scores.push_back(line.root()["rewards"]["rm"].DoubleOr(std::nan("")));
  }
  return scores;
}
std::string EntryOf(const std::string& folder, const std::string& more = "") {
  return R"({"model": ")" + folder + R"(", "name": "rm")" + more + "}";
}

void ExpectNear(const std::vector<double>& have, const std::vector<double>& want) {
  ASSERT_EQ(have.size(), want.size());
  for (size_t i = 0; i < have.size(); ++i) {
    EXPECT_NEAR(have[i], want[i], 1e-4 * (1 + std::abs(want[i]))) << i;
  }
}

std::vector<double> RewardsIn(const std::string& samples) {
  std::vector<double> scores;
  for (const json::Document& line : ParseLines(samples, "samples")) {
    scores.push_back(line.root()["rewards"]["rm"].DoubleOr(std::nan("")));
  }
  return scores;
}

// From records to a policy in one run: sft, a reward model on top of it, and what that model is
// asked for. The same texts get the same scores from grpo, from filter and from `retort score`; the
// best and the worst of them make the next reward model.
TEST_F(ValuesTest, ARewardModelIsAReward) {
  for (const bool lora : {false, true}) {
    const std::string algorithm = lora ? R"("algorithm": "ppo", )" : "";
    Write(R"(
    {"name": "sft", "kind": "sft", "model": "m", "data": "refs", "limit": 8, "max_steps": 2,
     "max_length": 1024},
    )" + std::regex_replace(RewardModel(lora ? kLora : ""), std::regex("\"m\""), "\"@sft\"") +
          R"(,
    {"name": "rl", "kind": "grpo", )" +
          algorithm + R"("model": "@sft", "data": "refs", "limit": 4, "max_steps": 2,
     "num_generations": 4, "prompts_per_step": 2, "sampling": {"max_tokens": 12}, "logging_steps": 1,
     "mask_truncated_completions": false, "rewards": [{"model": "@rm"}]},
    {"name": "own", "kind": "generate", "model": "@rl", "data": "refs", "limit": 4, "samples": 4,
     "sampling": {"max_tokens": 12}},
    {"name": "kept", "kind": "filter", "data": "@own",
     "filters": [{"plugin": "reward_threshold", "config": {"min": -1e9},
                  "rewards": [{"model": "@rm", "name": "rm"}]}]},
    {"name": "next", "kind": "reward_model", "model": "@sft", "data": "@kept", "max_steps": 2,
     "max_length": 1024, "logging_steps": 1},
    {"name": "test", "kind": "eval", "models": ["@rl"], "tasks": [{"data": "refs", "limit": 2,
     "sampling": {"max_tokens": 12},
     "rewards": [{"model": "@rm", "at": "steps", "reduce": "product", "name": "steps"}]}]})");
    const std::string run = lora ? "lora" : "whole", rm = Out(run) + "/rm/checkpoint-24";
    const Outcome outcome = Run(run);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    for (const char* file : {"/rl/samples.jsonl", "/kept/kept.jsonl"}) {
      const std::string samples = ReadText(Out(run) + file);
      const std::vector<double> before = RewardsIn(samples);
      EXPECT_GE(before.size(), 8U);
      ExpectNear(before, Scores(EntryOf(rm), samples));
    }
    const auto scores = json::Document::Parse(ReadText(Out(run) + "/test/scores.json"), "scores");
    EXPECT_THAT(scores->root().Dump(), HasSubstr("steps"));
    if (!lora) continue;
    const std::string samples = ReadText(Out(run) + "/kept/kept.jsonl"),
                      merged = folder_ + "/plain";
    const Outcome wrote = RunRetort({"model", "merge", Out(run) + "/sft/checkpoint-2", rm, merged});
    ASSERT_EQ(wrote.exit_code, 0) << wrote.err;
    EXPECT_THAT(ReadText(merged + "/config.json"), HasSubstr("ForSequenceClassification"));
    ExpectNear(Scores(EntryOf(merged), samples), Scores(EntryOf(rm), samples));
  }
}

// A step's score is that of the text up to its end.
TEST_F(ValuesTest, StepsAreScoredWhereTheyEnd) {
  Write(RewardModel(""));
  ASSERT_EQ(Run("run").exit_code, 0);
  const std::string rm = Out("run") + "/rm/checkpoint-24";
  const std::vector<std::string> steps = {"Step 1: it is 3\\n", "Step 2: no\\n\\n", "so it is 4"};
  std::string text, prefixes;
  const auto line = [](const std::string& completion) {
    return R"({"prompt": "after 3? ", "completion": ")" + completion +
           "\", \"finish\": \"length\"}\n";
  };
  for (const std::string& step : steps) prefixes += line(text += step);
  const std::vector<double> each = Scores(EntryOf(rm), prefixes);
  ASSERT_EQ(each.size(), 3U);
  double product = 1;
  for (const double score : each) product *= 1 / (1 + std::exp(-score));
  const auto reduced = [&](const std::string& reduce) {
    const std::string more = R"(, "at": "steps", "reduce": ")" + reduce + "\"";
    return Scores(EntryOf(rm, more), line(text));
  };
  ExpectNear(reduced("min"), {*std::min_element(each.begin(), each.end())});
  ExpectNear(reduced("mean"), {(each[0] + each[1] + each[2]) / 3});
  ExpectNear(reduced("product"), {product});
}

TEST_F(ValuesTest, WhatGivesNoRewardIsRefusedBeforeAnythingRuns) {
  const auto grpo = [](const std::string& reward) {
    return R"(, {"name": "rl", "kind": "grpo", "model": "m", "data": "refs", "rewards": [)" +
           reward + "]}";
  };
  const auto refused = [&](const std::string& stages, int code, const std::string& rule) {
    Write(stages);
    const Outcome outcome = Run("run");
    EXPECT_EQ(outcome.exit_code, code) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(rule));
  };
  const std::string rm = RewardModel("");
  refused(rm + grpo(R"({"model": "m"})"), 1, "model 'm': it has no value head (score.weight)");
  refused(rm + grpo(R"({"model": "@rl"})"), 2, "'@rl' is this stage itself");
  refused(rm + grpo(R"({"model": "@rm", "plugin": "format"})"), 2, "one of the two");
  refused(rm + grpo(R"({"model": "@rm", "config": {"x": 1}})"), 2, "config: is of a plugin");
  refused(rm + grpo(R"({"model": "@rm", "isolate": true})"), 2, "isolate: is of a plugin");
  refused(rm + grpo(R"({"model": "@rm", "reduce": "min"})"), 2, "it needs \"at\": \"steps\"");
  refused(rm + grpo(R"({"plugin": "format", "at": "steps"})"), 2, "is of an entry with \"model\"");
  refused(rm + R"(, {"name": "g", "kind": "generate", "model": "@rm", "data": "refs"})", 1,
          "model '@rm': stage g: the model is a reward model");
  refused(RewardModel(R"(, "loss": ["dpo"])"), 2, "loss dpo looks at no values");
  refused(
      R"({"name": "s", "kind": "sft", "model": "m", "data": "refs", "loss": ["bradley_terry"]})", 2,
      "loss bradley_terry needs values");
}

TEST_F(ValuesTest, WhatPpoHasNoUseForIsRefused) {
  Write(std::regex_replace(kPpo, std::regex("\"limit\": 8"), R"("advantage": "group")"));
  const Outcome outcome = Run("run");
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("stages.rl.advantage: ppo works out its own"));
}

}  // namespace
}  // namespace retort::golden
