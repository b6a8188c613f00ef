// `retort plan` foretells the peak memory of `retort run`: within a tenth of what the system says
// that the program held at most, on a model of 135 million parameters.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/golden/program.h"

namespace retort::golden {
namespace {

constexpr double kTolerance = 0.1;

std::string Gsm8k() {
  return std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/gsm8k/train_small.jsonl";
}

// A pipeline of one stage, given without its braces. Model "m" is kept as `storage`.
std::string PipelineOf(const std::string& storage, const std::string& stage) {
  return R"({"retort": 1, "name": "memory", "models": {"m": {"path": ")" + ModelPath("smollm2") +
         R"(", "storage": ")" + storage + R"("}}, "data": {"q": {"path": ")" + Gsm8k() +
         R"(", "map": {"prompt": "question", "completion": "<think>\n{answer}"}}},
          "stages": [{"name": "s", )" +
         stage + "}]}";
}

// Two steps whose micro-batches are full.
std::string Sft(const std::string& more) {
  return R"("kind": "sft", "model": "m", "data": "q", "max_steps": 2, "save_steps": 0, )" + more;
}

void ExpectForetold(const std::string& name, const std::string& pipeline) {
  const std::string folder = ScratchFolder("memory-" + name), file = folder + "/pipeline.json";
  WriteText(file, pipeline);
  const Outcome plan = RunRetort({"plan", file, "--json"});
  ASSERT_EQ(plan.exit_code, 0) << plan.err;
  const auto document = json::Document::Parse(plan.out, "plan");
  ASSERT_TRUE(document.ok()) << document.status().ToString();
  const double foretold = document->root()["stages"][0]["memory_bytes"].DoubleOr(0);
  const Outcome run = RunRetort({"run", file, "--set", "output=" + folder + "/run"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto measured = static_cast<double>(run.peak_bytes);
  EXPECT_NEAR(foretold, measured, kTolerance * measured);
  std::printf("%s: foretold %.0f MiB, measured %.0f MiB (%+.1f %%)\n", name.c_str(),
              foretold / (1 << 20), measured / (1 << 20), 100 * (foretold / measured - 1));
}

TEST(Memory, OfFullTraining) {
  ExpectForetold("full", PipelineOf("auto", Sft(R"("max_length": 512, "batch_tokens": 512)")));
}
TEST(Memory, OfFullTrainingThatAddsUpGradientsOfSeveralMicroBatches) {
  ExpectForetold("accumulated", PipelineOf("auto", Sft(R"("max_length": 256, "batch_tokens": 512,
                                           "micro_batch_tokens": 256, "recompute": 2)")));
}
TEST(Memory, OfAnAdapterBesideFrozenFloats) {
  ExpectForetold("lora", PipelineOf("f32", Sft(R"("max_length": 512, "batch_tokens": 512,
                                                  "lora": {"r": 16})")));
}
TEST(Memory, OfAnAdapterBesideFourBitWeights) {
  ExpectForetold("qlora", PipelineOf("nf4", Sft(R"("max_length": 512, "batch_tokens": 512,
                                                   "recompute": 1, "lora": {"r": 16})")));
}
class OptimizerMemory : public testing::TestWithParam<const char*> {};
TEST_P(OptimizerMemory, OfItsOwnStates) {
  ExpectForetold(GetParam(), PipelineOf("auto", Sft(R"("max_length": 512, "batch_tokens": 512,
      "optimizer": ")" + std::string(GetParam()) + "\"")));
}
// RETORT_MEMORY=all: every optimizer, as make soak does; else two whose states are laid out in ways
// of their own.
std::vector<const char*> Optimizers() {
  std::vector<const char*> ids = {"adamw_8bit", "muon"};
  const char* const wanted = std::getenv("RETORT_MEMORY");
  if (wanted != nullptr && std::string(wanted) == "all") {
    ids.insert(ids.end(), {"adafactor", "lion", "sgd"});
  }
  return ids;
}
INSTANTIATE_TEST_SUITE_P(Memory, OptimizerMemory, testing::ValuesIn(Optimizers()),
                         [](const auto& name) { return std::string(name.param); });
TEST(Memory, OfFrozenParams) {
  ExpectForetold("frozen", PipelineOf("auto", Sft(R"("max_length": 512, "batch_tokens": 512,
      "trainable": ["layers\\.2[0-9]"])")));
  ExpectForetold("embedding", PipelineOf("auto", Sft(R"("max_length": 512, "batch_tokens": 512,
      "frozen": ["embed_tokens"])")));
}
TEST(Memory, OfDistillingWithATeacherBeside) {
  ExpectForetold("distill", PipelineOf("auto", R"("kind": "distill", "model": "m", "teacher": "m",
      "data": "q", "max_steps": 1, "save_steps": 0, "max_length": 512, "batch_tokens": 512)"));
}
TEST(Memory, OfDecodingInFloats) {
  ExpectForetold("decode", PipelineOf("f32", R"("kind": "generate", "model": "m", "data": "q",
      "samples": 8, "limit": 4, "max_batch": 32, "sampling": {"max_tokens": 48})"));
}
TEST(Memory, OfDecodingPackedWeights) {
  ExpectForetold("packed", PipelineOf("auto", R"("kind": "generate", "model": "m", "data": "q",
      "samples": 8, "limit": 4, "max_batch": 32, "sampling": {"max_tokens": 48})"));
}

}  // namespace
}  // namespace retort::golden
