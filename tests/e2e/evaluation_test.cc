// Evaluation within training: its loss is that of TRL's trainer, it changes nothing of what is
// trained, and the best checkpoint is kept, over kills as without them.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cmath>
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
using testing::ElementsAre;
using testing::HasSubstr;

// Training on the first records, evaluation on others; `stage`: its JSON without what is here.
std::string PipelineOf(const std::string& stage, const std::string& evaluation) {
  const std::string data =
      std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/gsm8k/train_small.jsonl";
  const std::string map = R"("map": {"prompt": "question", "completion": "answer"}})";
  return R"({"retort": 1, "name": "evaluated", "seed": 5, "threads": 1, "models": {"m": ")" +
         ModelPath("qwen2") + R"(", "t": ")" + ModelPath("qwen3") +
         R"("}, "data": {"d": {"path": ")" + data + R"(", "limit": 12, )" + map +
         R"(, "held": {"path": ")" + data + "\", " + map +
         R"(}, "stages": [{"name": "s", "model": "m", "max_steps": 12, "learning_rate": 3e-3,
             "save_steps": 4, "logging_steps": 1, )" +
         stage + evaluation + "}]}";
}

constexpr const char* kSft =
    R"("kind": "sft", "data": "d", "max_length": 256, "batch_tokens": 300)";
constexpr const char* kCached =
    R"("kind": "distill", "teacher": "t", "teacher_top_k": 8, "data": "d",
    "max_length": 256, "batch_tokens": 300)";
constexpr const char* kBeside = R"("kind": "distill", "teacher": "t", "data": "d", "on_policy": 0.3,
    "loss": ["kd"], "sampling": {"max_tokens": 12}, "max_length": 256, "batch_tokens": 300)";
constexpr const char* kGrpo = R"("kind": "grpo", "data": "d", "num_generations": 4,
    "prompts_per_step": 4, "steps_per_generation": 2, "rewards": ["number_match", "format"],
    "overlong_buffer": 12, "mask_truncated_completions": false, "sampling": {"max_tokens": 16})";
constexpr const char* kLoss = R"(, "eval_steps": 3, "eval_data": {"data": "held", "limit": 6})";
constexpr const char* kAnswers =
    R"(, "eval_steps": 3, "eval": {"data": {"data": "held", "limit": 3},
    "rewards": ["number_match", "format"], "samples": 2,
    "sampling": {"temperature": 1, "max_tokens": 12}})";
// The first evaluation is the best: the loss falls.
constexpr const char* kHighest = R"(, "load_best_model_at_end": true, "greater_is_better": true)";
constexpr const char* kBest = R"(, "load_best_model_at_end": true)";

class EvaluationTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = ScratchFolder(std::string("evaluation_") +
                            testing::UnitTest::GetInstance()->current_test_info()->name());
  }
  std::string Out(const std::string& run) const { return folder_ + "/" + run; }
  Outcome Run(const std::string& run, const std::string& pipeline) const {
    WriteText(folder_ + "/p.json", pipeline);
    return RunRetort({"run", folder_ + "/p.json", "--set", "output=" + Out(run)});
  }
  void MustRun(const std::string& run, const std::string& pipeline) const {
    const Outcome outcome = Run(run, pipeline);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  }
  // Lines of evaluations, or of steps.
  std::vector<json::Document> Lines(const std::string& run, bool evaluations) const {
    std::vector<json::Document> out;
    for (json::Document& line : ReadLines(Out(run) + "/metrics.jsonl")) {
      if (bool(line.root()["eval_seconds"]) == evaluations) out.push_back(std::move(line));
    }
    return out;
  }
  std::vector<int64_t> Steps(const std::string& run) const {
    std::vector<int64_t> steps;
    for (const auto& line : Lines(run, true)) steps.push_back(line.root()["step"].IntOr(-1));
    return steps;
  }
  json::Document State(const std::string& run, const std::string& checkpoint) const {
    const std::string path = Out(run) + "/s/" + checkpoint + "/trainer/trainer_state.json";
    return json::Document::Parse(ReadText(path), path).value();
  }
  std::string Weights(const std::string& run, const std::string& checkpoint) const {
    return ReadText(Out(run) + "/s/" + checkpoint + "/model.safetensors");
  }
  std::string Output(const std::string& run) const {
    const std::string path = Out(run) + "/s/manifest.json";
    const auto manifest = json::Document::Parse(ReadText(path), path);
    const std::string name(manifest->root()["files"][0]["name"].StringOr(""));
    return name.substr(0, name.find('/'));
  }
  // The metrics without what a clock decides.
  std::string Metrics(const std::string& run) const {
    const std::regex clock(R"re("(time|tokens_per_second|[a-z]+_seconds)":("[^"]*"|[0-9.e+-]+))re");
    return std::regex_replace(ReadText(Out(run) + "/metrics.jsonl"), clock, "");
  }

  std::string folder_;
};

// With and without evaluations the same steps give the same weights, in every kind of stage.
TEST_F(EvaluationTest, ChangesNothingThatIsTrained) {
  int n = 0;
  for (const char* stage : {kSft, kCached, kBeside, kGrpo}) {
    const std::string plain = "plain" + std::to_string(n), with = "with" + std::to_string(n++);
    const bool policy = stage == kGrpo;
    MustRun(plain, PipelineOf(stage, ""));
    MustRun(with, PipelineOf(stage, std::string(policy ? "" : kLoss) + (policy ? kAnswers : "")));
    EXPECT_TRUE(Weights(plain, "checkpoint-12") == Weights(with, "checkpoint-12")) << stage;
    EXPECT_THAT(Steps(with), policy ? ElementsAre(4, 6, 10, 12) : ElementsAre(3, 6, 9, 12))
        << stage;
    const auto a = Lines(plain, false), b = Lines(with, false);
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a[i].root()["loss"].Dump(), b[i].root()["loss"].Dump()) << stage << i;
    }
  }
}

// Dropout of an adapter rests while it is evaluated: the loss is that of the same weights again.
TEST_F(EvaluationTest, LossAndAnswersOfAnAdapter) {
  const std::string lora = R"(, "lora": {"r": 4, "dropout": 0.3})";
  MustRun("plain", PipelineOf(kSft + lora, ""));
  MustRun("with", PipelineOf(kSft + lora, std::string(kAnswers) + R"(, "eval_data": "held")"));
  EXPECT_TRUE(ReadText(Out("plain") + "/s/checkpoint-12/adapter_model.safetensors") ==
              ReadText(Out("with") + "/s/checkpoint-12/adapter_model.safetensors"));
  const auto lines = Lines("with", true);
  ASSERT_EQ(lines.size(), 4U);
  for (const json::Document& line : lines) {
    EXPECT_GT(line.root()["eval_loss"].DoubleOr(0), 1);
    EXPECT_GE(line.root()["eval_reward"].DoubleOr(-1), 0);
    EXPECT_TRUE(line.root()["eval_rewards/format/mean"].is_number());
    EXPECT_LE(line.root()["eval_completions/mean_length"].DoubleOr(99), 12);
  }
}

// Oracle: tests/peers/make_eval_goldens.py. Steps at rate 0 leave the fixture's weights as they
// are.
TEST_F(EvaluationTest, LossIsThatOfTrlsTrainer) {
  for (const json::Document& golden : ReadLines(GoldenPath("eval_loss.jsonl"))) {
    const std::string name(golden.root()["model"].StringOr(""));
    const auto windows = ReadLines(GoldenPath("sft_" + name + ".jsonl"));
    std::string lines;
    for (int64_t w = 1; w <= golden.root()["windows"].IntOr(0); ++w) {
      const json::Value documents = windows[static_cast<size_t>(w)].root()["documents"];
      for (size_t i = 0; i < documents.size(); ++i) {
        json::Writer line;
        line.BeginObject().Field("prompt", documents[i]["prompt"].StringOr(""));
        lines +=
            line.Field("completion", documents[i]["completion"].StringOr("")).EndObject().text() +
            "\n";
      }
    }
    WriteText(folder_ + "/held.jsonl", lines);
    MustRun(name, R"({"retort": 1, "name": "golden", "models": {"m": ")" + ModelPath(name) +
                      R"("}, "data": {"held": "held.jsonl"}, "stages": [{"name": "s", "kind": "sft",
        "model": "m", "data": "held", "max_length": 1024, "max_steps": 1, "learning_rate": 0,
        "save_steps": 0, "eval_data": "held"}]})");
    const auto evaluated = Lines(name, true);
    ASSERT_EQ(evaluated.size(), 1U);
    const double expected = golden.root()["eval_loss"].DoubleOr(0);
    EXPECT_NEAR(evaluated[0].root()["eval_loss"].DoubleOr(0), expected, 1e-5 * expected) << name;
  }
}

TEST_F(EvaluationTest, BestCheckpointIsKeptAndIsTheResult) {
  MustRun("run", PipelineOf(kSft, std::string(kLoss) + kHighest));
  int64_t best_step = 0;
  double best = 0, last = 0;
  for (const json::Document& line : Lines("run", true)) {
    last = line.root()["eval_loss"].DoubleOr(0);
    if (last > best) best_step = line.root()["step"].IntOr(0);
    best = std::max(best, last);
  }
  ASSERT_EQ(best_step, 3);
  const std::string name = "checkpoint-" + std::to_string(best_step);
  EXPECT_EQ(Output("run"), name);
  const json::Document state = State("run", "checkpoint-12");
  EXPECT_EQ(state.root()["best_metric"].DoubleOr(0), best);
  EXPECT_EQ(state.root()["best_model_checkpoint"].StringOr(""), name);
  const json::Value log = state.root()["log_history"];
  const json::Value evaluated = log[log.size() - 1];
  EXPECT_EQ(evaluated["eval_loss"].DoubleOr(0), last);
  EXPECT_FALSE(evaluated["loss"]);
  // save_total_limit is 2: the last and the best.
  std::vector<std::string> there;
  for (const auto& entry : fs::directory_iterator(Out("run") + "/s")) {
    if (entry.is_directory()) there.push_back(entry.path().filename());
  }
  EXPECT_THAT(there, testing::UnorderedElementsAre(name, "checkpoint-12"));
}

TEST_F(EvaluationTest, KilledRunEndsWithTheSameBestAndBytes) {
  int n = 0;
  for (const std::string& stage : {std::string(kSft) + kLoss, std::string(kGrpo) + kAnswers}) {
    const std::string whole = "whole" + std::to_string(n), killed = "killed" + std::to_string(n++);
    const std::string pipeline =
        std::regex_replace(PipelineOf(stage, kBest), std::regex("3e-3"), "0.02");
    MustRun(whole, pipeline);
    int kills = 0;
    for (const char* fault : {"eval.done:1", "eval.done:2", "eval.done:2", "checkpoint.renamed:1",
                              "eval.done:2", "checkpoint.retained:1", "eval.done:1"}) {
      setenv("RETORT_FAULT", fault, 1);
      const Outcome outcome = Run(killed, pipeline);
      unsetenv("RETORT_FAULT");
      if (outcome.exit_code == 0) break;
      ASSERT_EQ(outcome.exit_code, 128 + SIGKILL) << fault << outcome.err;
      ++kills;
    }
    EXPECT_GE(kills, 3);
    MustRun(killed, pipeline);
    EXPECT_EQ(Metrics(whole), Metrics(killed));
    EXPECT_EQ(Output(whole), Output(killed));
    for (const std::string& checkpoint : {Output(whole), std::string("checkpoint-12")}) {
      EXPECT_TRUE(Weights(whole, checkpoint) == Weights(killed, checkpoint)) << checkpoint;
      const std::string file = "/s/" + checkpoint + "/trainer/trainer_state.json";
      EXPECT_EQ(ReadText(Out(whole) + file), ReadText(Out(killed) + file));
    }
  }
}

TEST_F(EvaluationTest, ASpoiledBestCheckpointIsNoResult) {
  const std::string pipeline = PipelineOf(kSft, std::string(kLoss) + kHighest);
  setenv("RETORT_FAULT", "stage.done", 1);
  EXPECT_EQ(Run("run", pipeline).exit_code, 128 + SIGKILL);
  unsetenv("RETORT_FAULT");
  const std::string name(
      State("run", "checkpoint-12").root()["best_model_checkpoint"].StringOr(""));
  const std::string path = Out("run") + "/s/" + name + "/model.safetensors";
  std::string bytes = ReadText(path);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  WriteText(path, bytes);
  const Outcome outcome = Run("run", pipeline);
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("the best checkpoint"), HasSubstr("--from s")));
}

TEST_F(EvaluationTest, MetricThatIsNotMeasuredIsNamed) {
  const Outcome outcome =
      Run("run", PipelineOf(kSft, std::string(kLoss) + R"(, "metric_for_best_model": "acuracy")"));
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("eval_acuracy"), HasSubstr("it gives eval_loss")));
}

// Keys and values of 2 layers, 2 heads of 8: 256 bytes a position in f32, in blocks of 64.
TEST_F(EvaluationTest, PlanCountsTheKeysAndValuesOfItsAnswers) {
  const auto bytes = [&](const char* stage, const std::string& evaluation) {
    WriteText(folder_ + "/p.json", PipelineOf(stage, evaluation));
    const Outcome plan = RunRetort({"plan", folder_ + "/p.json", "--json"});
    EXPECT_EQ(plan.exit_code, 0) << plan.err;
    const auto document = json::Document::Parse(plan.out, "plan");
    return static_cast<int64_t>(document->root()["stages"][0]["memory_bytes"].DoubleOr(0));
  };
  constexpr int64_t kBlock = 64 * 256;
  const std::string halved = std::regex_replace(kAnswers, std::regex("\"samples\""),
                                                "\"kv_dtype\": \"bf16\", \"samples\"");
  for (const char* stage : {kSft, kBeside}) {
    const int64_t without = bytes(stage, ""), with = bytes(stage, kAnswers) - without;
    EXPECT_GE(with, 6 * kBlock) << "six answers at a time, each in a block of its own at least";
    EXPECT_EQ(with % kBlock, 0);
    EXPECT_EQ(2 * (bytes(stage, halved) - without), with);
  }
}

}  // namespace
}  // namespace retort::golden
