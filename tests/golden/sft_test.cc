// Ten SFT steps through `retort run` against the same steps in transformers and torch, from the
// same text: loss and gradient norm of every step. Oracle: tests/peers/make_goldens.py.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "tests/golden/program.h"

namespace retort::golden {
namespace {

constexpr double kLossTolerance = 1e-3;      // relative, the bar
constexpr double kGradNormTolerance = 1e-2;  // relative, likewise

// How the documents of a step are laid out; the loss must not know.
struct Layout {
  const char* name;
  int per_device, accumulation;
  const char* packing;
};

class GoldenSft : public testing::TestWithParam<const char*> {};

std::string DataOf(const std::vector<json::Document>& golden) {
  std::string lines;
  for (size_t step = 1; step < golden.size(); ++step) {
    const json::Value documents = golden[step].root()["documents"];
    for (size_t i = 0; i < documents.size(); ++i) {
      json::Writer line;
      line.BeginObject();
      line.Field("prompt", documents[i]["prompt"].StringOr(""));
      line.Field("completion", documents[i]["completion"].StringOr(""));
      lines += line.EndObject().text() + "\n";
    }
  }
  return lines;
}

std::string PipelineOf(const std::string& model, json::Value options, const Layout& layout) {
  json::Writer w;
  w.BeginObject().Field("retort", 1).Field("name", "sft10");
  w.Key("models").BeginObject().Field("student", model).EndObject();
  w.Key("data").BeginObject().Field("texts", "data.jsonl").EndObject();
  w.Key("stages").BeginArray().BeginObject();
  w.Field("name", "sft").Field("kind", "sft").Field("model", "student").Field("data", "texts");
  w.Field("packing", layout.packing).Field("shuffle", false).Field("max_length", 1024);
  w.Key("batch").BeginObject().Field("per_device", layout.per_device);
  w.Field("accumulation", layout.accumulation).EndObject();
  w.Field("max_steps", 10).Field("logging_steps", 1).Field("save_steps", 0);
  w.Key("learning_rate").Copy(options["learning_rate"]).Field("schedule", "constant");
  w.Key("max_grad_norm").Copy(options["max_grad_norm"]);
  w.Key("optimizer").BeginObject().Field("plugin", "adamw").Key("config").BeginObject();
  for (const char* key : {"weight_decay", "eps"}) w.Key(key).Copy(options[key]);
  w.Key("betas").BeginArray().Copy(options["beta1"]).Copy(options["beta2"]).EndArray();
  w.EndObject().EndObject().EndObject().EndArray().EndObject();
  return w.Take();
}

// The lines of the stage's metrics that tell of a step.
std::vector<json::Document> TrainOnce(const std::string& name, const Layout& layout) {
  const auto golden = ReadLines(GoldenPath("sft_" + name + ".jsonl"));
  const std::string folder = ScratchFolder("sft-" + name + "-" + layout.name);
  WriteText(folder + "/data.jsonl", DataOf(golden));
  WriteText(folder + "/pipeline.json",
            PipelineOf(ModelPath(name), golden[0].root()["options"], layout));
  const Outcome run =
      RunRetort({"run", folder + "/pipeline.json", "--set", "output=" + folder + "/run"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  if (run.exit_code != 0) return {};
  std::vector<json::Document> steps;
  for (json::Document& line : ReadLines(folder + "/run/metrics.jsonl")) {
    if (line.root()["loss"]) steps.push_back(std::move(line));
  }
  return steps;
}

TEST_P(GoldenSft, TenStepsEqualTransformersAndTorch) {
  const std::string name = GetParam();
  const auto golden = ReadLines(GoldenPath("sft_" + name + ".jsonl"));
  const json::Value options = golden[0].root()["options"];
  const Layout layout{"golden", static_cast<int>(options["per_device"].IntOr(0)),
                      static_cast<int>(options["accumulation"].IntOr(0)), "none"};
  const auto steps = TrainOnce(name, layout);
  ASSERT_EQ(steps.size(), 10U);
  double worst_loss = 0, worst_norm = 0;
  for (size_t i = 0; i < steps.size(); ++i) {
    const json::Value ours = steps[i].root(), theirs = golden[i + 1].root();
    const double loss = theirs["loss"].DoubleOr(0), norm = theirs["grad_norm"].DoubleOr(0);
    EXPECT_NEAR(ours["loss"].DoubleOr(NAN), loss, kLossTolerance * loss) << "step " << i + 1;
    EXPECT_NEAR(ours["grad_norm"].DoubleOr(NAN), norm, kGradNormTolerance * norm)
        << "step " << i + 1;
    worst_loss = std::max(worst_loss, std::abs(ours["loss"].DoubleOr(NAN) / loss - 1));
    worst_norm = std::max(worst_norm, std::abs(ours["grad_norm"].DoubleOr(NAN) / norm - 1));
  }
  std::printf("%s: worst relative difference of loss %.3g, of grad_norm %.3g\n", GetParam(),
              worst_loss, worst_norm);
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenSft,
                         testing::Values("llama", "qwen2", "qwen3", "mistral", "olmo2", "gemma2",
                                         "phi3", "gemma3_text", "qwen2_moe", "qwen3_moe", "mixtral",
                                         "smollm2"),
                         [](const auto& param) { return std::string(param.param); });

// The loss is a sum over the window's labels divided by their count: neither packing nor the
// split into micro-batches may change it beyond rounding.
TEST(SftLayout, LossDependsNeitherOnPackingNorOnAccumulation) {
  const auto one_by_one = TrainOnce("qwen3", {"single", 1, 4, "none"});
  ASSERT_EQ(one_by_one.size(), 10U);
  for (const Layout& layout : {Layout{"together", 4, 1, "none"}, Layout{"pairs", 2, 2, "none"}}) {
    const auto steps = TrainOnce("qwen3", layout);
    ASSERT_EQ(steps.size(), one_by_one.size()) << layout.name;
    for (size_t i = 0; i < steps.size(); ++i) {
      const double expected = one_by_one[i].root()["loss"].DoubleOr(NAN);
      EXPECT_NEAR(steps[i].root()["loss"].DoubleOr(NAN), expected, 1e-5 * expected)
          << layout.name << ", step " << i + 1;
    }
  }
}

}  // namespace
}  // namespace retort::golden
