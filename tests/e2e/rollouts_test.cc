// Rounds of a grpo stage that were drawn before a kill: they are gone on with as they are, unless
// their files are spoiled, and are away once a checkpoint has them.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <filesystem>
#include <regex>
#include <string>
#include <vector>

#include "tests/golden/program.h"

namespace retort::golden {
namespace {
namespace fs = std::filesystem;
using testing::HasSubstr;

// Four rounds of a step each; the only checkpoint is the last.
constexpr const char* kPipeline = R"({
  "retort": 1, "name": "t", "seed": 3, "threads": 1,
  "models": {"m": "MODEL"},
  "data": {"d": {"path": "DATA", "map": {"prompt": "question", "answer": "answer"}}},
  "stages": [{"name": "s", "kind": "grpo", "model": "m", "data": "d", "limit": 6, "max_steps": 4,
    "num_generations": 4, "prompts_per_step": 2, "learning_rate": 1e-3, "logging_steps": 1,
    "rewards": [REWARDS], "sampling": {"max_tokens": 12}}]})";

constexpr const char* kWhim = R"({"plugin": "whim", "isolate": false})";
class RolloutsTest : public testing::Test {
 protected:
  void Write(const std::string& rewards) {
    folder_ = ScratchFolder(std::string("rollouts_") +
                            testing::UnitTest::GetInstance()->current_test_info()->name());
    const std::string data =
        std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/gsm8k/train_small.jsonl";
    std::string text = std::regex_replace(kPipeline, std::regex("MODEL"), ModelPath("qwen2"));
    text = std::regex_replace(text, std::regex("DATA"), data);
    WriteText(folder_ + "/p.json", std::regex_replace(text, std::regex("REWARDS"), rewards));
  }
  std::string Stage(const std::string& run) const { return folder_ + "/" + run + "/s"; }
  std::string RoundFile(const std::string& run, int step) const {
    return Stage(run) + "/rollouts/step-" + std::to_string(step) + ".jsonl";
  }
  Outcome Run(const std::string& run, const std::string& fault = "") const {
    if (!fault.empty()) setenv("RETORT_FAULT", fault.c_str(), 1);
    Outcome outcome = RunRetort({"run", folder_ + "/p.json", "--plugin", RETORT_WHIM, "--set",
                                 "output=" + folder_ + "/" + run});
    unsetenv("RETORT_FAULT");
    return outcome;
  }
  // Completion and reward of each sample of the steps before `end`.
  std::vector<std::string> Verdicts(const std::string& run, int64_t end) const {
    std::vector<std::string> verdicts;
    for (const json::Document& line : ReadLines(Stage(run) + "/samples.jsonl")) {
      const json::Value root = line.root();
      if (root["step"].IntOr(end) >= end) continue;
      verdicts.push_back(root["completion_ids"].Dump() + " " + root["rewards"].Dump() + " " +
                         root["reward"].Dump());
    }
    return verdicts;
  }
  std::vector<std::string> KeptVerdicts(const std::string& run, int steps) const {
    std::vector<std::string> verdicts;
    for (int step = 0; step < steps; ++step) {
      for (const json::Document& line : ReadLines(RoundFile(run, step))) {
        const json::Value root = line.root();
        if (!root["sample"]) continue;
        verdicts.push_back(root["sample"]["completion_ids"].Dump() +
                           " {\"whim\":" + root["scores"][0].Dump() + "} " + root["reward"].Dump());
      }
    }
    return verdicts;
  }

  std::string folder_;
};

TEST_F(RolloutsTest, VerdictsBeforeAKillStand) {
  Write(kWhim);
  ASSERT_EQ(Run("killed", "rollouts.written:3").exit_code, 128 + SIGKILL);
  const std::vector<std::string> kept = KeptVerdicts("killed", 3);
  ASSERT_EQ(kept.size(), 3U * 2 * 4);
  const Outcome resumed = Run("killed");
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(resumed.err, HasSubstr("drawn and scored before the stop"));
  EXPECT_EQ(Verdicts("killed", 3), kept);
  EXPECT_FALSE(fs::exists(Stage("killed") + "/rollouts")) << "a checkpoint has the steps";
  // The reward does judge otherwise when it is asked again.
  const Outcome other = Run("other");
  ASSERT_EQ(other.exit_code, 0) << other.err;
  EXPECT_NE(Verdicts("other", 1), Verdicts("killed", 1));
}

class SpoiledRollouts : public RolloutsTest, public testing::WithParamInterface<const char*> {};

TEST_P(SpoiledRollouts, AreDrawnAnew) {
  const std::string how = GetParam();
  Write(R"({"plugin": "number_match", "name": "right"},
           {"plugin": "format", "gate": "right"}, "arithmetic")");
  ASSERT_EQ(Run("whole").exit_code, 0);
  ASSERT_EQ(Run("killed", "rollouts.kept:2").exit_code, 128 + SIGKILL);
  std::string text = ReadText(RoundFile("killed", 1));
  if (how == "cut") text.resize(text.size() / 2);
  if (how == "empty") text.clear();
  if (how == "digit") text[text.find("\"logp\":[-") + 9] ^= 1;
  if (how == "other") text = ReadText(RoundFile("killed", 0));
  WriteText(RoundFile("killed", 1), text);
  const Outcome resumed = Run("killed");
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(resumed.err, HasSubstr("step-1.jsonl is spoiled"));
  EXPECT_THAT(resumed.err, HasSubstr("drawn anew"));
  for (const char* file : {"/samples.jsonl", "/checkpoint-4/model.safetensors"}) {
    EXPECT_TRUE(ReadText(Stage("whole") + file) == ReadText(Stage("killed") + file)) << file;
  }
}
INSTANTIATE_TEST_SUITE_P(Ways, SpoiledRollouts, testing::Values("cut", "empty", "digit", "other"),
                         [](const auto& each) { return std::string(each.param); });

}  // namespace
}  // namespace retort::golden
