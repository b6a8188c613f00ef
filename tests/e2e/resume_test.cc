// Stop and go on: a run that was interrupted, or killed, in every stage ends with the same bytes as
// one that wasn't. And what is not done again: finished stages whose makings are unchanged.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "tests/golden/program.h"

namespace retort::golden {
namespace {
namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kPipeline = R"({
  "retort": 1, "name": "resume", "seed": 7,
  "models": {"m": "MODEL"},
  "data": {
    "q": {"path": "DATA", "map": {"prompt": "question"}},
    "refs": {"path": "DATA", "limit": 12,
             "map": {"prompt": "question", "completion": "<think>\n{answer}"}},
  },
  "stages": [
    {"name": "cot", "kind": "generate", "model": "m", "data": "q", "samples": 3, "limit": 6,
     "prefix": "<think>\n", "max_batch": 4, "sampling": {"temperature": 0.9, "max_tokens": 120}},
    {"name": "clean", "kind": "filter", "data": ["@cot", "refs"],
     "filters": [{"plugin": "length", "config": {"min_tokens": 2}}]},
    {"name": "sft", "kind": "sft", "model": "m", "data": "@clean", "learning_rate": 1e-3,
     "max_steps": 12, "batch_tokens": 256, "max_length": 256, "logging_steps": 2,
     "save_steps": 5},
    {"name": "lora", "kind": "sft", "model": "@sft", "data": "@clean", "max_steps": 8,
     "lora": {"r": 4, "dropout": 0.1}, "learning_rate": 1e-2, "batch_tokens": 256,
     "max_length": 256, "logging_steps": 2, "save_steps": 3},
    {"name": "score", "kind": "eval", "models": ["m", "@sft", "@lora"], "tasks": [
      {"data": "q", "limit": 4, "samples": 2, "rewards": ["number_match"],
       "metrics": ["pass@1", "mean_length", {"loglik": "answer"}],
       "sampling": {"temperature": 0.7, "max_tokens": 32}}]},
  ],
})";

// The pipeline of this file in a folder of the test's own; runs go into <folder>/<name>.
class ResumeTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = ScratchFolder(std::string("resume_") +
                            testing::UnitTest::GetInstance()->current_test_info()->name());
    std::string text = std::regex_replace(kPipeline, std::regex("MODEL"), ModelPath("qwen2"));
    const std::string data =
        std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/gsm8k/train_small.jsonl";
    WriteText(File(), std::regex_replace(text, std::regex("DATA"), data));
  }
  std::string File() const { return folder_ + "/pipeline.json"; }
  std::string Out(const std::string& run) const { return folder_ + "/" + run; }

  std::vector<std::string> Arguments(const std::string& run,
                                     const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = {"run", File(), "--set", "output=" + Out(run)};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  Outcome Run(const std::string& run, const std::vector<std::string>& more = {}) const {
    return RunRetort(Arguments(run, more));
  }
  void MustRun(const std::string& run, const std::vector<std::string>& more = {}) const {
    const Outcome outcome = Run(run, more);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  }

  // Starts a run, sends `signal` once `file` has `lines` lines, and gives the exit code (128 +
  // the signal's number for a killed one).
  int StopAt(const std::string& run, const std::string& file, size_t lines, int signal) const {
    std::vector<std::string> words = Arguments(run);
    words.insert(words.begin(), RETORT_PROGRAM);
    const pid_t child = fork();
    if (child == 0) {
      std::vector<char*> argv;
      for (std::string& word : words) argv.push_back(word.data());
      argv.push_back(nullptr);
      (void)!freopen("/dev/null", "w", stdout);
      (void)!freopen("/dev/null", "w", stderr);
      execv(argv[0], argv.data());
      _exit(126);
    }
    int status = 0;
    while (waitpid(child, &status, WNOHANG) == 0) {
      if (CountLines(Out(run) + "/" + file) < lines) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        continue;
      }
      kill(child, signal);
      waitpid(child, &status, 0);
      break;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  static size_t CountLines(const std::string& path) {
    if (!fs::exists(path)) return 0;
    const std::string text = ReadText(path);
    return static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
  }

  // The metrics without what a clock decides.
  std::string Metrics(const std::string& run) const {
    const std::string text = ReadText(Out(run) + "/metrics.jsonl");
    const std::regex timing(R"re("(time|tokens_per_second)":("[^"]*"|[0-9.e+-]+))re");
    return std::regex_replace(text, timing, "");
  }

  void ExpectSame(const std::string& a, const std::string& b) const {
    for (const char* file :
         {"cot/samples.jsonl", "clean/kept.jsonl", "clean/audit.jsonl",
          "sft/checkpoint-12/model.safetensors", "sft/checkpoint-12/trainer/trainer_state.json",
          "lora/checkpoint-8/adapter_model.safetensors",
          "lora/checkpoint-8/trainer/trainer_state.json", "score/samples/2-_lora.0-q.jsonl",
          "score/scores.json", "score/samples/1-_sft.0-q.jsonl"}) {
      EXPECT_TRUE(ReadText(Out(a) + "/" + file) == ReadText(Out(b) + "/" + file)) << file;
    }
    EXPECT_EQ(Metrics(a), Metrics(b));
  }

  std::string folder_;
};

struct Stop {
  const char* file;
  size_t lines;
};
constexpr Stop kStops[] = {{"cot/samples.jsonl", 2},
                           {"cot/samples.jsonl", 9},
                           {"metrics.jsonl", 1},
                           {"metrics.jsonl", 4},
                           {"metrics.jsonl", 8},
                           {"metrics.jsonl", 10},
                           {"score/samples/0-m.0-q.jsonl", 1},
                           {"score/samples/1-_sft.0-q.jsonl", 3}};

TEST_F(ResumeTest, InterruptedRunEndsWithTheSameBytes) {
  MustRun("whole");
  for (const Stop& stop : kStops) {
    // A stage may end between the look at its file and the signal.
    const int code = StopAt("stopped", stop.file, stop.lines, SIGINT);
    ASSERT_THAT(code, testing::AnyOf(75, 0)) << stop.file << " " << stop.lines;
  }
  MustRun("stopped");
  ExpectSame("whole", "stopped");
}

TEST_F(ResumeTest, KilledRunEndsWithTheSameBytes) {
  MustRun("whole");
  for (const Stop& stop : kStops) {
    const int code = StopAt("killed", stop.file, stop.lines, SIGKILL);
    ASSERT_THAT(code, testing::AnyOf(128 + SIGKILL, 0)) << stop.file << " " << stop.lines;
  }
  MustRun("killed");
  ExpectSame("whole", "killed");
}

TEST_F(ResumeTest, SigtermIsACleanStopToo) {
  EXPECT_THAT(StopAt("run", "cot/samples.jsonl", 1, SIGTERM), testing::AnyOf(75, 0));
  EXPECT_FALSE(fs::exists(Out("run") + "/run.lock"));
}

TEST_F(ResumeTest, DamagedCheckpointIsPassedOverForTheOneBefore) {
  MustRun("run");
  const std::string weights = Out("run") + "/sft/checkpoint-12/model.safetensors";
  const std::string before = ReadText(weights);
  std::string spoiled = before;
  spoiled.back() = static_cast<char>(spoiled.back() ^ 1);
  WriteText(weights, spoiled);
  // As if the run had been killed before the stage's end was recorded.
  const std::string manifest = Out("run") + "/sft/manifest.json";
  WriteText(manifest, std::regex_replace(ReadText(manifest), std::regex(R"("finished": true)"),
                                         R"("finished": false)"));
  const Outcome again = Run("run");
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.err, AllOf(HasSubstr("passing over"), HasSubstr("checkpoint-10")));
  EXPECT_TRUE(ReadText(weights) == before);
}

TEST_F(ResumeTest, ChangedStageAndWhatDependsOnItRunAnew) {
  MustRun("run");
  const std::vector<std::string> more = {"--set",
                                         "stages.clean.filters.length.config.min_tokens=3"};
  const Outcome again = Run("run", more);
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.err, AllOf(HasSubstr("cot is done already"), HasSubstr("changed: config"),
                               Not(HasSubstr("clean is done already"))));
  EXPECT_TRUE(fs::exists(Out("run") + "/.trash/clean/kept.jsonl"));
}

TEST_F(ResumeTest, StageThatChangesNothingLeavesLaterOnesDone) {
  MustRun("run");
  MustRun("run", {"--from", "clean", "--only", "clean"});
  const Outcome again = Run("run");
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.err, HasSubstr("sft is done already"));  // the same bytes came out
}

TEST_F(ResumeTest, SpoiledArtifactIsMadeAgain) {
  MustRun("run");
  const std::string kept = Out("run") + "/clean/kept.jsonl";
  const std::string before = ReadText(kept);
  WriteText(kept, before.substr(1));
  const Outcome again = Run("run");
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.err, HasSubstr("kept.jsonl"));
  EXPECT_TRUE(ReadText(kept) == before);
}

TEST_F(ResumeTest, OnlyNeedsItsInputsAndNames) {
  const Outcome missing = Run("run", {"--only", "sft"});
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_THAT(missing.err, AllOf(HasSubstr("@clean"), HasSubstr("has not finished")));
  const Outcome unknown = Run("run", {"--only", "claen"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("did you mean 'clean'?"));
  MustRun("run", {"--only", "cot"});
  EXPECT_TRUE(fs::exists(Out("run") + "/cot/samples.jsonl"));
  EXPECT_FALSE(fs::exists(Out("run") + "/clean"));
}

TEST_F(ResumeTest, FolderOfAnotherMachinesRunIsRefused) {
  fs::create_directories(Out("run"));
  WriteText(Out("run") + "/run.lock",
            R"({"host":"elsewhere","boot_id":"b","pid":1,"start_time":1,"nonce":"n"})");
  const Outcome run = Run("run");
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.err, HasSubstr("elsewhere"));
}

TEST_F(ResumeTest, BrokenLineOfDataFailsBeforeAnythingRuns) {
  const std::string data = folder_ + "/broken.jsonl";
  WriteText(data, "{\"question\": \"1+1\", \"answer\": \"2\"}\n{\"question\": \n");
  const Outcome run = Run("run", {"--set", "data.q.path=" + data});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.err, HasSubstr("broken.jsonl:2"));
  EXPECT_FALSE(fs::exists(Out("run") + "/cot"));
}

}  // namespace
}  // namespace retort::golden
