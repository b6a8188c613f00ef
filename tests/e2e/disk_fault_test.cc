// Training stages on a disk that fails: the n-th call of the run folder's file system fails, once
// or from then on, for n = 1, 2, ... (RETORT_FAULTS=all; else a sample of n). Every checkpoint that
// is there is whole then, the message says what to do, and the same command goes on bit by bit. And
// the program itself under a real limit. SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <regex>
#include <string>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "host/pipeline/pipeline.h"
#include "tests/golden/training.h"
#include "tests/unit/io/fault_fs.h"

namespace retort::golden {
namespace {
namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

struct StageCase {
  const char* name;
  const char* stage;  // its JSON
  int last;           // step of its last checkpoint
};
std::ostream& operator<<(std::ostream& out, const StageCase& c) { return out << c.name; }

const StageCase kSft = {"sft", R"("kind": "sft", "max_length": 256, "max_steps": 6,
    "batch_tokens": 200, "save_steps": 2, "eval_steps": 3, "eval_data": {"data": "d", "limit": 2},
    "load_best_model_at_end": true)",
                        6};
const StageCase kBeside = {"beside", R"("kind": "distill", "teacher": "t", "max_length": 256,
    "max_steps": 4, "batch_tokens": 200, "save_steps": 2)",
                           4};
const StageCase kCached = {"cached", R"("kind": "distill", "teacher": "t", "max_length": 256,
    "max_steps": 4, "batch_tokens": 200, "save_steps": 2, "teacher_top_k": 8, "limit": 6)",
                           4};
const StageCase kGrpo = {"grpo",
                         R"("kind": "grpo", "limit": 4, "max_steps": 4, "num_generations": 2,
    "prompts_per_step": 2, "rewards": ["format"], "overlong_buffer": 4, "save_steps": 2,
    "mask_truncated_completions": false, "sampling": {"max_tokens": 6})",
                         4};

struct Kind {
  int error;
  bool sticky;
  const char* remedy;
};
constexpr Kind kKinds[] = {{ENOSPC, true, "make room"},
                           {EIO, false, "dmesg"},
                           {ENOSPC, false, "make room"},
                           {EMFILE, false, "ulimit -n"},
                           {EDQUOT, true, "quota"}};

class DiskFaultTest : public testing::TestWithParam<StageCase> {
 protected:
  void SetUp() override {
    folder_ = ScratchFolder(std::string("disk_fault_") + GetParam().name);
    const std::string data =
        std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/gsm8k/train_small.jsonl";
    WriteText(folder_ + "/p.json",
              R"({"retort": 1, "name": "faults", "seed": 5, "threads": 1, "models": {"m": )" +
                  Model() + R"(, "t": ")" + ModelPath("qwen3") + R"("}, "data": {"d": {"path": ")" +
                  data +
                  R"(", "map": {"prompt": "question", "completion": "answer"}}}, "stages": [
                  {"name": "s", "model": "m", "data": "d", "learning_rate": 1e-3,
                   "logging_steps": 1, )" +
                  GetParam().stage + "}]}");
    session_ = std::make_unique<host::Session>(EngineOptions());
    ASSERT_TRUE(Run("whole", nullptr).ok());
  }

  virtual std::string Model() const { return '"' + ModelPath("qwen2") + '"'; }

  Status Run(const std::string& run, io::FileSystem* file_system) {
    const auto config =
        host::LoadPipeline(folder_ + "/p.json", {.set = {"output=" + folder_ + "/" + run}});
    if (!config.ok()) return config.status();
    host::RunOptions options;
    options.fs = file_system;
    const Status status = host::RunPipeline(*session_, *config, options).status();
    // What this process could not give back would be a dead process' after a real failure.
    const std::string lock = folder_ + "/" + run + "/run.lock";
    if (fs::exists(lock) && fs::file_size(lock) > 0) fs::remove(lock);
    return status;
  }

  int Operations(int error) {
    io::FaultFs counter({.error = error});
    const Status status = Run("counted", &counter);
    EXPECT_TRUE(status.ok()) << status.ToString();
    fs::remove_all(folder_ + "/counted");
    return counter.operations();
  }

  void ExpectCheckpointsWhole(const std::string& run, const std::string& what) const {
    const std::string stage = folder_ + "/" + run + "/s";
    EXPECT_FALSE(fs::exists(folder_ + "/" + run + "/.trash/s")) << what;
    if (!fs::exists(stage)) return;
    for (const auto& entry : fs::directory_iterator(stage)) {
      const std::string name = entry.path().filename();
      if (!name.starts_with("checkpoint-") || name.find(".tmp-") != name.npos) continue;
      const Status whole = checkpoint::Verify(io::RealFileSystem(), entry.path()).status();
      EXPECT_TRUE(whole.ok()) << what << ": " << whole.ToString();
    }
  }

  std::string Metrics(const std::string& run) const {
    const std::regex clock(R"re("(time|tokens_per_second|[a-z]+_seconds)":("[^"]*"|[0-9.e+-]+))re");
    return std::regex_replace(ReadText(folder_ + "/" + run + "/metrics.jsonl"), clock, "");
  }
  void ExpectSame(const std::string& run, const std::string& what) const {
    const std::string last = "/s/checkpoint-" + std::to_string(GetParam().last);
    for (const std::string& file :
         {last + "/model.safetensors", last + "/trainer/trainer_state.json"}) {
      EXPECT_TRUE(ReadText(folder_ + "/whole" + file) == ReadText(folder_ + "/" + run + file))
          << file << " after " << what;
    }
    EXPECT_EQ(Metrics("whole"), Metrics(run)) << what;
  }

  // The call fails, the run stops (or could do without that call), and goes on later.
  bool FailAndGoOn(int at, const Kind& kind) {
    const std::string what = std::string(strerrorname(kind.error)) + " at call " +
                             std::to_string(at) + (kind.sticky ? " and later" : "");
    io::FaultFs faulty({.at = at, .error = kind.error, .sticky = kind.sticky});
    const Status failed = Run("run", &faulty);
    ExpectCheckpointsWhole("run", what);
    if (!failed.ok()) {
      EXPECT_EQ(host::ExitCode(failed), 75) << what << ": " << failed.ToString();
      EXPECT_THAT(failed.message(), AllOf(HasSubstr("cannot "), HasSubstr(folder_ + "/run"),
                                          HasSubstr(kind.remedy), HasSubstr("the same command")))
          << what;
      const Status goes_on = Run("run", nullptr);
      EXPECT_TRUE(goes_on.ok()) << what << ", then: " << goes_on.ToString();
    }
    ExpectSame("run", what);
    fs::remove_all(folder_ + "/run");
    return !failed.ok();
  }

  static const char* strerrorname(int error) {
    return error == ENOSPC   ? "ENOSPC"
           : error == EIO    ? "EIO"
           : error == EMFILE ? "EMFILE"
                             : "EDQUOT";
  }

  std::string folder_;
  std::unique_ptr<host::Session> session_;
};

TEST_P(DiskFaultTest, StopsWithWholeCheckpointsAndGoesOn) {
  const bool all = std::getenv("RETORT_FAULTS") != nullptr;
  constexpr int kSample = 3;  // calls of each kind of fault, besides the first
  int runs = 0, failures = 0;
  for (size_t k = 0; k < std::size(kKinds); ++k) {
    const int n = Operations(kKinds[k].error);
    ASSERT_GT(n, 20);
    const int stride = all ? 1 : n / kSample;
    // Each kind fails other calls.
    for (int at = all ? 1 : 1 + static_cast<int>(k) * stride / 5; at <= n; at += stride) {
      ++runs;
      failures += FailAndGoOn(at, kKinds[k]) ? 1 : 0;
      if (HasFailure() && !all) return;
    }
  }
  std::printf("%s: %d runs with a fault, %d stopped by it\n", GetParam().name, runs, failures);
  RecordProperty("faults", failures);
  EXPECT_GT(failures, runs / 2);
}

INSTANTIATE_TEST_SUITE_P(Stages, DiskFaultTest, testing::Values(kSft, kBeside, kCached, kGrpo),
                         [](const auto& c) { return std::string(c.param.name); });

// The program: exit code, or 128 + the signal.
int RunProgram(const std::string& folder, const std::string& run, const std::string& fault,
               rlim_t most_bytes) {
  const std::string file = folder + "/p.json", output = "output=" + folder + "/" + run;
  const pid_t child = fork();
  if (child == 0) {
    if (!fault.empty()) setenv("RETORT_FAULT", fault.c_str(), 1);
    const rlimit limit = {.rlim_cur = most_bytes, .rlim_max = most_bytes};
    (void)!freopen("/dev/null", "w", stdout);
    (void)!freopen((folder + "/err").c_str(), "w", stderr);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(125);
    execl(RETORT_PROGRAM, RETORT_PROGRAM, "run", file.c_str(), "--set", output.c_str(), nullptr);
    _exit(126);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// A model from nothing, larger than a plugin, whose copy the limit must leave room for.
class DiskLimitTest : public DiskFaultTest {
 protected:
  std::string Model() const override {
    return R"({"tokenizer": ")" + ModelPath("qwen2") + R"(", "config": {"model_type": "qwen2",
        "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 2,
        "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 2048,
        "eos_token_id": 2}})";
  }
};

// Files may not grow beyond half a model: the second checkpoint can't be written.
TEST_P(DiskLimitTest, ProgramStopsAtTheLimitOfFileSizesAndGoesOn) {
  const std::string first = folder_ + "/run/s/checkpoint-2";
  ASSERT_EQ(RunProgram(folder_, "run", "checkpoint.begin:2", RLIM_INFINITY), 128 + SIGKILL);
  const rlim_t half = fs::file_size(first + "/model.safetensors") / 2;
  EXPECT_EQ(RunProgram(folder_, "run", "", half), 75);
  EXPECT_THAT(
      ReadText(folder_ + "/err"),
      AllOf(HasSubstr("cannot write " + folder_ + "/run/s/checkpoint-"), HasSubstr("bytes written"),
            HasSubstr("ulimit -f"), HasSubstr("the same command continues")));
  ExpectCheckpointsWhole("run", "the limit");
  EXPECT_TRUE(fs::exists(first));
  EXPECT_EQ(RunProgram(folder_, "run", "", RLIM_INFINITY), 0) << ReadText(folder_ + "/err");
  ExpectSame("run", "the limit");
}

INSTANTIATE_TEST_SUITE_P(Stages, DiskLimitTest, testing::Values(kSft, kGrpo),
                         [](const auto& c) { return std::string(c.param.name); });

}  // namespace
}  // namespace retort::golden
