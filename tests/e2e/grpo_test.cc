// A grpo stage where there is nothing to learn, and one that learns what it is rewarded for.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/golden/program.h"

namespace retort::golden {
namespace {

using testing::HasSubstr;

// `more`: further keys of the stage.
Outcome RunStage(const std::string& folder, const std::string& more) {
  const std::string data =
      std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/gsm8k/train_small.jsonl";
  WriteText(folder + "/p.json", R"({"retort": 1, "name": "rl", "seed": 5, "models": {"m": ")" +
                                    ModelPath("qwen2") + R"("}, "data": {"q": {"path": ")" + data +
                                    R"(", "map": {"prompt": "question"}}}, "stages": [{
      "name": "rl", "kind": "grpo", "model": "m", "data": "q", "logging_steps": 1, "save_steps": 0, "rewards": ["number_match"],
      "mask_truncated_completions": false, )" +
                                    more + "}]}");
  return RunRetort({"run", folder + "/p.json", "--set", "output=" + folder + "/run"});
}

double MeanOver(const std::vector<json::Document>& lines, size_t begin, const char* key) {
  double sum = 0;
  for (size_t i = begin; i < begin + 5; ++i) sum += lines[i].root()[key].DoubleOr(0);
  return sum / 5;
}

// A random model answers nothing right: every group has one reward, and none is left.
TEST(Grpo, GroupsThatAreAllAlikeTeachNothingAndAreToldOf) {
  const std::string folder = ScratchFolder("grpo_alike");
  const Outcome run = RunStage(folder, R"("num_generations": 4, "prompts_per_step": 2,
      "dynamic_sampling": true, "max_resamples": 2, "max_steps": 2,
      "steps_per_generation": 2, "learning_rate": 0.1, "sampling": {"max_tokens": 6})");
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.err, HasSubstr("all rewards were equal in each of 6 groups"));
  const auto lines = ReadLines(folder + "/run/metrics.jsonl");
  ASSERT_EQ(lines.size(), 2U);
  for (const json::Document& line : lines) {
    EXPECT_EQ(line.root()["grad_norm"].DoubleOr(-1), 0);
    EXPECT_EQ(line.root()["no_labels"].DoubleOr(0), 1);
    EXPECT_EQ(line.root()["frac_reward_zero_std"].DoubleOr(0), 1);
  }
}

// What is taken off long answers makes them short.
TEST(Grpo, LearnsToBeBriefFromThePenaltyOfLength) {
  const std::string folder = ScratchFolder("grpo_brief");
  const Outcome run = RunStage(folder, R"("num_generations": 8, "prompts_per_step": 8,
      "overlong_buffer": 24, "max_steps": 30, "learning_rate": 3e-3,
      "sampling": {"max_tokens": 24})");
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto lines = ReadLines(folder + "/run/metrics.jsonl");
  ASSERT_EQ(lines.size(), 30U);
  EXPECT_LT(MeanOver(lines, 25, "completions/mean_length"),
            0.6 * MeanOver(lines, 0, "completions/mean_length"));
  EXPECT_GT(MeanOver(lines, 25, "reward"), MeanOver(lines, 0, "reward") + 0.2);
}

}  // namespace
}  // namespace retort::golden
