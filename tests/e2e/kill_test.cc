// Training stages under SIGKILL: at random moments and at every named fault point, again and again
// until the run ends by itself. Its weights, samples and metrics are then those of a run that
// nobody disturbed.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "tests/golden/program.h"

namespace retort::golden {
namespace {
namespace fs = std::filesystem;
using std::chrono::microseconds;
using std::chrono::steady_clock;

// RETORT_KILLS in the environment asks for more (make soak).
int RandomKills() {
  const char* text = std::getenv("RETORT_KILLS");
  return text != nullptr ? std::atoi(text) : 50;
}
constexpr unsigned kSeed = 20260;

struct StageCase {
  const char* name;
  const char* stage;               // its JSON, without name and data's path
  std::vector<std::string> files;  // that must be equal
};

std::ostream& operator<<(std::ostream& out, const StageCase& c) { return out << c.name; }

const StageCase kSft = {
    "sft",
    R"({"name": "s", "kind": "sft", "model": "m", "data": "d", "max_length": 256, "max_steps": 14,
        "batch_tokens": 300, "learning_rate": 1e-3, "save_steps": 3, "logging_steps": 1,
        "eval_steps": 4, "eval_data": {"data": "d", "limit": 4}, "load_best_model_at_end": true})",
    {"s/checkpoint-14/model.safetensors", "s/checkpoint-14/trainer/trainer_state.json"}};

const StageCase kDistill = {
    "distill",
    R"({"name": "s", "kind": "distill", "model": "m", "teacher": "t", "data": "d", "max_length": 256,
        "max_steps": 14, "batch_tokens": 300, "learning_rate": 1e-3, "save_steps": 3,
        "logging_steps": 1, "on_policy": 0.4, "sampling": {"max_tokens": 20},
        "loss": [{"plugin": "kd", "config": {"divergence": "jsd", "temperature": 0.9}}]})",
    {"s/checkpoint-14/model.safetensors", "s/checkpoint-14/trainer/trainer_state.json"}};

const StageCase kCached = {
    "cached",
    R"({"name": "s", "kind": "distill", "model": "m", "teacher": "t", "data": "d", "max_length": 256,
        "max_steps": 14, "batch_tokens": 300, "learning_rate": 1e-3, "save_steps": 3,
        "logging_steps": 1, "teacher_top_k": 16, "eval_steps": 5,
        "eval_data": {"data": "d", "limit": 4}})",
    {"s/checkpoint-14/model.safetensors", "s/checkpoint-14/trainer/trainer_state.json"}};

const StageCase kGrpo = {
    "grpo",
    R"({"name": "s", "kind": "grpo", "model": "m", "data": "d", "limit": 10, "max_steps": 14,
        "num_generations": 4, "prompts_per_step": 4, "steps_per_generation": 2,
        "num_iterations": 2, "target_kl": 5e-3,
        "sync_ref_model": true, "ref_model_sync_steps": 2,
        "cold_start": {"data": "d", "ratio": 0.2, "max_length": 200},
        "rewards": ["number_match", {"plugin": "format", "weight": 0.5, "gate": "number_match"}],
        "overlong_buffer": 12, "mask_truncated_completions": false, "learning_rate": 1e-3, "save_steps": 3,
        "logging_steps": 1, "sampling": {"max_tokens": 20}, "eval_steps": 5,
        "eval": {"data": {"data": "d", "limit": 2}, "sampling": {"max_tokens": 8}},
        "loss": [{"plugin": "grpo", "config": {"beta": 0.04}}]})",
    {"s/checkpoint-14/model.safetensors", "s/checkpoint-14/trainer/trainer_state.json",
     "s/samples.jsonl"}};

const StageCase kRewardModel = {
    "reward_model",
    R"({"name": "s", "kind": "reward_model", "model": "m", "data": "p", "max_length": 128,
        "max_steps": 14, "batch_tokens": 300, "learning_rate": 1e-3, "save_steps": 3,
        "logging_steps": 1})",
    {"s/checkpoint-14/model.safetensors", "s/checkpoint-14/trainer/trainer_state.json"}};

class KillTest : public testing::TestWithParam<StageCase> {
 protected:
  void SetUp() override {
    folder_ =
        ScratchFolder(std::string("kill_") + GetParam().name + "_" +
                      std::to_string(testing::UnitTest::GetInstance()->random_seed()) +
                      testing::UnitTest::GetInstance()->current_test_info()->test_suite_name());
    const std::string data =
        std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/gsm8k/train_small.jsonl";
    std::string pairs;
    for (int i = 0; i < 40; ++i) {
      const std::string n = std::to_string(i), next = std::to_string(i + 1);
      pairs += R"({"prompt": "after )" + n + R"(? ", "chosen": "it is )" + next +
               R"(", "rejected": "who knows )" + n + "\"}\n";
    }
    WriteText(folder_ + "/pairs.jsonl", pairs);
    WriteText(folder_ + "/p.json",
              R"({"retort": 1, "name": "kill", "seed": 5, "threads": 1, "models": {"m": ")" +
                  ModelPath("qwen2") + R"(", "t": ")" + ModelPath("qwen3") +
                  R"("}, "data": {"d": {"path": ")" + data +
                  R"(", "map": {"prompt": "question", "completion": "answer"}}, "p": ")" + folder_ +
                  R"(/pairs.jsonl"}, "stages": [)" + GetParam().stage + "]}");
    const auto start = steady_clock::now();
    ASSERT_EQ(Run("whole", "", microseconds::max()), 0);
    whole_time_ = std::chrono::duration_cast<microseconds>(steady_clock::now() - start);
  }

  // Exit code, or 128 + the signal. Killed after `limit`, or at a fault point.
  int Run(const std::string& run, const std::string& fault, microseconds limit) const {
    const std::string file = folder_ + "/p.json", output = "output=" + folder_ + "/" + run;
    const pid_t child = fork();
    if (child == 0) {
      if (!fault.empty()) setenv("RETORT_FAULT", fault.c_str(), 1);
      (void)!freopen("/dev/null", "w", stdout);
      (void)!freopen((folder_ + "/err").c_str(), "w", stderr);
      execl(RETORT_PROGRAM, RETORT_PROGRAM, "run", file.c_str(), "--set", output.c_str(), nullptr);
      _exit(126);
    }
    if (limit != microseconds::max()) {
      std::this_thread::sleep_for(limit);
      kill(child, SIGKILL);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  std::string Metrics(const std::string& run) const {
    const std::regex clock(R"re("(time|tokens_per_second|[a-z]+_seconds)":("[^"]*"|[0-9.e+-]+))re");
    return std::regex_replace(ReadText(folder_ + "/" + run + "/metrics.jsonl"), clock, "");
  }

  void ExpectSame(const std::string& run, const std::string& what) const {
    for (const std::string& file : GetParam().files) {
      EXPECT_TRUE(ReadText(folder_ + "/whole/" + file) ==
                  ReadText(folder_ + "/" + run + "/" + file))
          << file << " after " << what;
    }
    EXPECT_EQ(Metrics("whole"), Metrics(run)) << what;
  }

  std::string folder_;
  microseconds whole_time_{0};
};

TEST_P(KillTest, AtRandomMoments) {
  std::mt19937 random(kSeed);
  int kills = 0, runs = 0;
  while (kills < RandomKills()) {
    const std::string run = "random" + std::to_string(runs++);
    // Later and later on the whole, so that a run of many kills ends.
    for (int attempt = 1;; ++attempt) {
      const double most = static_cast<double>(whole_time_.count()) * (0.6 + 0.1 * attempt);
      auto limit = std::uniform_int_distribution<int64_t>(0, static_cast<int64_t>(most));
      const int code = Run(run, "", microseconds(limit(random)));
      if (code == 0) break;
      ASSERT_EQ(code, 128 + SIGKILL) << ReadText(folder_ + "/err");
      ++kills;
    }
    ExpectSame(run, "kills at random moments, seed " + std::to_string(kSeed));
    fs::remove_all(folder_ + "/" + run);
  }
  RecordProperty("kills", kills);
}

TEST_P(KillTest, AtEveryFaultPoint) {
  std::vector<std::string> points = {
      "file.written",        "file.synced",      "file.renamed",       "checkpoint.begin",
      "checkpoint.model",    "checkpoint.state", "checkpoint.written", "checkpoint.renamed",
      "checkpoint.retained", "metrics.line",     "trash.renamed",      "stage.done",
      "stage.finished",      "lock.drafted"};
  if (std::string(GetParam().name) == "grpo") {
    points.insert(points.end(), {"rollouts.kept", "rollouts.written"});
  }
  if (std::string(GetParam().name) == "cached") points.push_back("teacher.shard");
  if (std::string(GetParam().stage).find("eval_steps") != std::string::npos) {
    points.push_back("eval.done");
  }
  int kills = 0;
  for (const std::string& point : points) {
    const std::string run = "at_" + point;
    int of_point = 0;
    for (const int passage : {1, 3, 9}) {
      const int code = Run(run, point + ":" + std::to_string(passage), microseconds::max());
      if (code == 0) continue;  // the run has fewer such points left
      ASSERT_EQ(code, 128 + SIGKILL) << point << ": " << ReadText(folder_ + "/err");
      ++of_point;
    }
    EXPECT_GT(of_point, 0) << point << " is never reached";
    kills += of_point;
    ASSERT_EQ(Run(run, "", microseconds::max()), 0) << ReadText(folder_ + "/err");
    ExpectSame(run, "kills at " + point);
    fs::remove_all(folder_ + "/" + run);
  }
  // A run cut short leaves metrics beyond its checkpoint: the next one cuts them, and may die then.
  ASSERT_EQ(Run("cut", "metrics.line:9", microseconds::max()), 128 + SIGKILL);
  EXPECT_EQ(Run("cut", "metrics.cut", microseconds::max()), 128 + SIGKILL);
  ASSERT_EQ(Run("cut", "", microseconds::max()), 0);
  ExpectSame("cut", "a kill while cutting metrics");
  RecordProperty("kills", kills + 2);
}

INSTANTIATE_TEST_SUITE_P(Stages, KillTest,
                         testing::Values(kSft, kDistill, kCached, kRewardModel, kGrpo),
                         [](const auto& c) { return std::string(c.param.name); });

}  // namespace
}  // namespace retort::golden
