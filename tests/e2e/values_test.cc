// What a value head is for, as a user runs it: PPO beside the policy; stopped, killed, gone on.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

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
  "data": {"refs": {"path": "DATA", "map": {"prompt": "question", "completion": "answer"}}},
  "stages": [STAGES],
})";
constexpr const char* kPpo = R"(
    {"name": "rl", "kind": "grpo", "algorithm": "ppo", "model": "m", "data": "refs", "limit": 8,
     "num_generations": 2, "prompts_per_step": 4, "num_iterations": 2, "max_steps": 8,
     "kl_coef": 0.05, "mask_truncated_completions": false, "learning_rate": 3e-3, "save_steps": 4,
     "logging_steps": 1, "sampling": {"max_tokens": 16}, "overlong_buffer": 12,
     "rewards": ["number_match"]})";

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

TEST_F(ValuesTest, WhatPpoHasNoUseForIsRefused) {
  Write(std::regex_replace(kPpo, std::regex("\"limit\": 8"),
                           R"("lora": {"r": 4}, "advantage": "group")"));
  const Outcome outcome = Run("run");
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("stages.rl.lora: ppo trains a value head"));
  EXPECT_THAT(outcome.err, HasSubstr("stages.rl.advantage: ppo works out its own"));
}

}  // namespace
}  // namespace retort::golden
