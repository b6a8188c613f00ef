// on_nonfinite: what a training stage does about a batch whose loss or gradient is no number. The
// loss plugin of poison.cc makes it so wherever the completion has an '@'.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "tests/golden/program.h"

namespace retort::golden {
namespace {
namespace fs = std::filesystem;
using testing::HasSubstr;

// A step trains on one record, in the order of the file; checkpoints at 2, 4, 6 and 8.
constexpr const char* kPipeline = R"({
  "retort": 1, "name": "t", "models": {"m": "MODEL"}, "data": {"d": "data.jsonl"},
  "stages": [{"name": "sft", "kind": "sft", "model": "m", "data": "d", "learning_rate": 1e-3,
    "loss": [{"plugin": "poison", "config": {"label": LABEL, "gradient": GRADIENT}}],
    "max_steps": 8, "batch": {"per_device": 1}, "packing": "none", "shuffle": false,
    "chat": false, "logging_steps": 1, "save_steps": 2, "save_total_limit": 0,
    "on_nonfinite": "POLICY"}]})";

class NonFinite : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = ScratchFolder(std::string("nonfinite_") +
                            testing::UnitTest::GetInstance()->current_test_info()->name());
    const Outcome outcome = RunRetort({"tokenize", ModelPath("qwen2")}, "{\"text\": \"@\"}\n");
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const std::vector<json::Document> lines = ParseLines(outcome.out, "tokenize");
    at_ = std::to_string(Ints(lines[0].root()["ids"]).back());
  }

  // Runs 20 records, of which those in `bad` (from 1) are poisoned; `out` names the run folder.
  Outcome Run(const std::string& out, const std::set<int>& bad, const std::string& policy,
              const std::string& gradient = "false") {
    std::string data;
    for (int i = 1; i <= 20; ++i) {
      const std::string text = bad.count(i) != 0 ? "that is @" : "that is " + std::to_string(i * i);
      if (dropped_.count(i) != 0) continue;
      data += R"({"prompt": "What is )" + std::to_string(i) + R"( squared? ", "completion": ")" +
              text + "\"}\n";
    }
    WriteText(folder_ + "/data.jsonl", data);
    std::string text = std::regex_replace(kPipeline, std::regex("MODEL"), ModelPath("qwen2"));
    text = std::regex_replace(text, std::regex("LABEL"), at_);
    text = std::regex_replace(text, std::regex("GRADIENT"), gradient);
    WriteText(folder_ + "/p.json", std::regex_replace(text, std::regex("POLICY"), policy));
    return RunRetort({"run", folder_ + "/p.json", "--set", "output=" + folder_ + "/" + out,
                      "--plugin", RETORT_POISON, "--threads", "2"});
  }
  std::string Weights(const std::string& out, int step = 8) const {
    return ReadText(folder_ + "/" + out + "/sft/checkpoint-" + std::to_string(step) +
                    "/model.safetensors");
  }
  // The value of a field of each line of the metrics; -1: the line has none.
  std::vector<double> Metric(const std::string& out, const char* field) const {
    std::vector<double> values;
    for (const json::Document& line : ReadLines(folder_ + "/" + out + "/metrics.jsonl")) {
      values.push_back(line.root()[field].DoubleOr(-1));
    }
    return values;
  }

  std::string folder_, at_;
  std::set<int> dropped_;  // records that the file lacks
};

TEST_F(NonFinite, StopNamesStepBatchAndLoss) {
  const Outcome run = Run("stop", {6}, "stop");
  EXPECT_NE(run.exit_code, 0);
  EXPECT_THAT(run.err, testing::AllOf(HasSubstr("step 6"), HasSubstr("micro-batch 1 of 1"),
                                      HasSubstr("poison"), HasSubstr("nan")));
}

TEST_F(NonFinite, StopNamesTheTensorOfAGradient) {
  const Outcome run = Run("stop", {6}, "stop", "true");
  EXPECT_NE(run.exit_code, 0);
  EXPECT_THAT(run.err, testing::AllOf(HasSubstr("step 6"), HasSubstr("first in the gradient of"),
                                      HasSubstr("in micro-batch 1 of 1")));
}

TEST_F(NonFinite, SkipLeavesTheStepOutAndCountsIt) {
  for (const char* gradient : {"false", "true"}) {
    const std::string out = std::string("skip_") + gradient;
    const Outcome run = Run(out, {5, 6}, "skip", gradient);
    ASSERT_EQ(run.exit_code, 0) << run.err;
    EXPECT_THAT(run.err, HasSubstr("skipped"));
    EXPECT_EQ(Metric(out, "skipped"), (std::vector<double>{-1, -1, -1, -1, 1, 2, 2, 2}));
    EXPECT_EQ(Metric(out, "loss")[4], -1);
    EXPECT_EQ(Weights(out, 4), Weights(out, 6));
    EXPECT_NE(Weights(out, 6), Weights(out, 8));
  }
  EXPECT_EQ(Weights("skip_false"), Weights("skip_true"));
}

// As if it had been killed after its checkpoint of step 6.
TEST_F(NonFinite, ASkippedStepIsCountedInCheckpoints) {
  ASSERT_EQ(Run("whole", {5, 6}, "skip").exit_code, 0);
  fs::copy(folder_ + "/whole", folder_ + "/cut", fs::copy_options::recursive);
  fs::remove_all(folder_ + "/cut/sft/checkpoint-8");
  const std::string manifest = folder_ + "/cut/sft/manifest.json";
  WriteText(manifest, std::regex_replace(ReadText(manifest), std::regex(R"("finished": true)"),
                                         R"("finished": false)"));
  const Outcome run = Run("cut", {5, 6}, "skip");
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(Weights("cut"), Weights("whole"));
  EXPECT_EQ(Metric("cut", "skipped"), Metric("whole", "skipped"));
  EXPECT_EQ(Metric("cut", "loss"), Metric("whole", "loss"));
}

TEST_F(NonFinite, TooManyInARowEndTheStage) {
  for (const char* policy : {"skip", "rollback"}) {
    const Outcome run = Run(policy, {3, 4, 5, 6}, policy);
    EXPECT_NE(run.exit_code, 0);
    EXPECT_THAT(run.err, HasSubstr("3 batches in a row")) << policy;
  }
  ASSERT_EQ(Run("fewer", {3, 4, 5}, "skip").exit_code, 0);
}

// Equal to the bit to a run whose data never had the poisoned records.
TEST_F(NonFinite, RollbackIsAsIfTheBatchHadNotBeenThere) {
  const Outcome run = Run("back", {1, 6, 8}, "rollback");
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.err, HasSubstr("back to the last checkpoint"));
  dropped_ = {1, 6, 8};
  ASSERT_EQ(Run("clean", {}, "stop").exit_code, 0);
  EXPECT_EQ(Weights("back"), Weights("clean"));
  EXPECT_EQ(Metric("back", "loss"), Metric("clean", "loss"));
  EXPECT_EQ(Metric("back", "left_out").back(), 3);
}

}  // namespace
}  // namespace retort::golden
