// Rounds of writing, filtering and training: killed anywhere they go on, and more of them can be
// asked for afterwards.
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
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kPipeline = R"({
  "retort": 1, "name": "rounds", "seed": 11, "threads": 1,
  "models": {"m": "MODEL"},
  "data": {"q": {"path": "DATA", "map": {"prompt": "question"}, "limit": 3}},
  "stages": [
    {"name": "rounds", "kind": "repeat", "times": 2, "stages": [
      {"name": "write", "kind": "generate", "model": {"first": "m", "then": "@sft"}, "data": "q",
       "samples": 2, "sampling": {"max_tokens": 24}},
      {"name": "keep", "kind": "filter", "data": "@write",
       "filters": [{"plugin": "length", "config": {"min_tokens": 2}}]},
      {"name": "sft", "kind": "sft", "model": "m", "data": {"all": "@keep"}, "max_steps": 4,
       "learning_rate": 1e-2, "batch_tokens": 200, "max_length": 400, "logging_steps": 1,
       "save_steps": 2}]},
    {"name": "score", "kind": "eval", "models": ["m", "@rounds.sft"],
     "tasks": [{"data": "q", "rewards": ["number_match"], "sampling": {"max_tokens": 8}}]}],
})";

class RepeatTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = ScratchFolder(std::string("repeat_") +
                            testing::UnitTest::GetInstance()->current_test_info()->name());
    const std::string data =
        std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/gsm8k/train_small.jsonl";
    const std::string text = std::regex_replace(kPipeline, std::regex("MODEL"), ModelPath("qwen2"));
    WriteText(folder_ + "/p.json", std::regex_replace(text, std::regex("DATA"), data));
  }
  std::string Out(const std::string& run) const { return folder_ + "/" + run; }
  Outcome Run(const std::string& run, const std::vector<std::string>& more = {},
              const std::string& fault = "") const {
    std::vector<std::string> words = {"run", folder_ + "/p.json", "--set", "output=" + Out(run)};
    words.insert(words.end(), more.begin(), more.end());
    if (!fault.empty()) setenv("RETORT_FAULT", fault.c_str(), 1);
    Outcome outcome = RunRetort(words);
    unsetenv("RETORT_FAULT");
    return outcome;
  }
  std::string Metrics(const std::string& run) const {
    const std::regex clock(R"re("(time|tokens_per_second)":("[^"]*"|[0-9.e+-]+))re");
    return std::regex_replace(ReadText(Out(run) + "/metrics.jsonl"), clock, "");
  }

  std::string folder_;
};

TEST_F(RepeatTest, KilledInAnyStageOfAnyRoundItEndsWithTheSameBytes) {
  const Outcome whole = Run("whole");
  ASSERT_EQ(whole.exit_code, 0) << whole.err;
  EXPECT_THAT(whole.out + whole.err, AllOf(HasSubstr("rounds.1.write"), HasSubstr("rounds.2.sft")));
  int kills = 0;
  for (int stage = 1; stage <= 7; ++stage) {  // at the end of each, and after it was noted
    for (const char* point : {"stage.done:1", "checkpoint.written:1", "stage.finished:1"}) {
      const int code = Run("killed", {}, point).exit_code;
      if (code == 0) continue;
      ASSERT_EQ(code, 128 + SIGKILL);
      ++kills;
    }
  }
  EXPECT_GE(kills, 7);
  ASSERT_EQ(Run("killed").exit_code, 0);
  for (const char* file :
       {"rounds.1.write/samples.jsonl", "rounds.1.sft/checkpoint-4/model.safetensors",
        "rounds.2.write/samples.jsonl", "rounds.2.keep/kept.jsonl",
        "rounds.2.sft/checkpoint-4/model.safetensors", "score/scores.json"}) {
    EXPECT_TRUE(ReadText(Out("whole") + "/" + file) == ReadText(Out("killed") + "/" + file))
        << file;
  }
  EXPECT_EQ(Metrics("whole"), Metrics("killed"));
  // The second round wrote with what the first had trained, and learnt from both.
  EXPECT_NE(ReadText(Out("whole") + "/rounds.1.write/samples.jsonl"),
            ReadText(Out("whole") + "/rounds.2.write/samples.jsonl"));
}

TEST_F(RepeatTest, MoreRoundsGoOnFromThoseThatAreDone) {
  ASSERT_EQ(Run("run").exit_code, 0);
  const std::string last = "/rounds.2.sft/checkpoint-4/model.safetensors";
  const std::string before = ReadText(Out("run") + last);
  const Outcome more = Run("run", {"--set", "stages.rounds.times=3"});
  ASSERT_EQ(more.exit_code, 0) << more.err;
  EXPECT_THAT(more.err, AllOf(HasSubstr("rounds.1.write is done already"),
                              HasSubstr("rounds.2.sft is done already"),
                              Not(HasSubstr("rounds.3.sft is done already"))));
  EXPECT_TRUE(ReadText(Out("run") + last) == before);
  EXPECT_TRUE(fs::exists(Out("run") + "/rounds.3.sft/checkpoint-4/model.safetensors"));
}

TEST_F(RepeatTest, AStageOfARoundIsNamedLikeAnyOther) {
  ASSERT_EQ(Run("run").exit_code, 0);
  const Outcome from = Run("run", {"--from", "rounds.2.keep"});
  ASSERT_EQ(from.exit_code, 0) << from.err;
  EXPECT_THAT(from.err, AllOf(HasSubstr("rounds.2.write is done already"),
                              Not(HasSubstr("rounds.2.keep is done already"))));
  ASSERT_EQ(Run("run", {"--only", "rounds.2.sft"}).exit_code, 0);
  const Outcome all = Run("run", {"--from", "rounds"});
  EXPECT_EQ(all.exit_code, 2);
  EXPECT_THAT(all.err, AllOf(HasSubstr("there is no such stage"), HasSubstr("rounds.1.write")));
}

TEST_F(RepeatTest, ThePlanHasEveryRound) {
  const Outcome plan = RunRetort({"plan", folder_ + "/p.json", "--set", "output=" + Out("run")});
  ASSERT_EQ(plan.exit_code, 0) << plan.err;
  EXPECT_THAT(plan.out, AllOf(HasSubstr("rounds.1.write"), HasSubstr("rounds.2.sft"),
                              HasSubstr("@rounds.1.sft"), HasSubstr("score")));
  EXPECT_FALSE(fs::exists(Out("run")));
}

// The same model and prompts: what differs is the round's stream of random numbers.
TEST_F(RepeatTest, RoundsDrawDifferently) {
  const Outcome run = Run("run", {"--set", "stages.rounds.stages.write.model=m"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto first = ReadLines(Out("run") + "/rounds.1.write/samples.jsonl");
  const auto second = ReadLines(Out("run") + "/rounds.2.write/samples.jsonl");
  ASSERT_EQ(first.size(), 6U);
  ASSERT_EQ(second.size(), 6U);
  for (size_t i = 0; i < first.size(); ++i) {
    EXPECT_EQ(first[i].root()["prompt"].StringOr("a"), second[i].root()["prompt"].StringOr("b"));
    EXPECT_NE(first[i].root()["completion"].StringOr(""),
              second[i].root()["completion"].StringOr(""));
  }
}

}  // namespace
}  // namespace retort::golden
