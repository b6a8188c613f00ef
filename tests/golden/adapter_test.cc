// Adapters made by peft, run and trained by retort: log-probabilities, gradients of A and B, and
// five SFT steps against peft and torch. Oracle: tests/peers/make_peft_goldens.py.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "tests/golden/training.h"

namespace retort::golden {
namespace {

constexpr double kLogprobTolerance = 1e-4;   // absolute, worst token
constexpr double kGradientTolerance = 1e-3;  // of a gradient's norm
constexpr double kLossTolerance = 1e-4;      // relative, of the first step; later ones 1e-3
constexpr double kLaterTolerance = 1e-3;
constexpr double kGradNormTolerance = 1e-2;

struct Golden {
  explicit Golden(const std::string& name)
      : lines(ReadLines(GoldenPath("peft_" + name + ".jsonl"))),
        folder(ModelPath("adapters/" + name)),
        base(ModelPath(std::string(head()["model"].StringOr("")))) {}

  json::Value head() const { return lines[0].root(); }
  std::vector<json::Value> Of(std::string_view kind) const {
    std::vector<json::Value> found;
    for (const json::Document& line : lines) {
      if (line.root()["kind"].StringOr("") == kind) found.push_back(line.root());
    }
    return found;
  }

  std::vector<json::Document> lines;
  std::string folder, base;
};

class GoldenAdapter : public testing::TestWithParam<const char*> {
 protected:
  host::Session session_{EngineOptions()};
  Golden golden_{GetParam()};
};

std::vector<int32_t> Ids(json::Value array) {
  std::vector<int32_t> ids;
  for (const int64_t id : Ints(array)) ids.push_back(static_cast<int32_t>(id));
  return ids;
}

TEST_P(GoldenAdapter, LogprobsEqualPeft) {
  // The folder names its base, "../../<fixture>".
  const auto opened = session_.OpenModel(golden_.folder);
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  const auto model = session_.LoadModel(**opened).value();
  const auto lines = golden_.Of("logprob");
  ASSERT_EQ(lines.size(), 6U);
  double worst = 0;
  for (const json::Value& line : lines) {
    const std::vector<int32_t> ids = Ids(line["ids"]);
    const std::vector<engine::ScoreRequest> requests = {
        {.ids = ids, .adapter = (*opened)->adapter_index()}, {.ids = ids, .adapter = -1}};
    const auto scored = model->Score(requests, 0, nullptr, nullptr);
    ASSERT_TRUE(scored.ok()) << scored.status().ToString();
    const std::vector<double> want = Doubles(line["logprob"]);
    ASSERT_EQ((*scored)[0].logp.size(), want.size());
    double effect = 0;
    for (size_t t = 0; t < want.size(); ++t) {
      worst = std::max(worst, std::abs(static_cast<double>((*scored)[0].logp[t]) - want[t]));
      effect = std::max(effect, std::abs(static_cast<double>((*scored)[1].logp[t]) - want[t]));
    }
    EXPECT_GT(effect, 0.05) << "the adapter changes nothing";
  }
  EXPECT_LE(worst, kLogprobTolerance);
  std::printf("%s: worst difference of a log-probability %.3g\n", GetParam(), worst);
}

// Norm and products with cos(i (k + 1)) of a gradient against the golden's, relative to its norm.
double Difference(const TensorView& view, json::Value golden) {
  const double norm = golden["norm"].DoubleOr(NAN);
  double squares = 0;
  std::vector<double> products(4, 0);
  for (int64_t i = 0; i < view.numel(); ++i) {
    const auto value = static_cast<double>(view.as<float>()[i]);
    squares += value * value;
    for (size_t k = 0; k < products.size(); ++k) {
      products[k] += value * std::cos(static_cast<double>(i) * static_cast<double>(k + 1));
    }
  }
  double worst = std::abs(std::sqrt(squares) - norm);
  const auto theirs = Doubles(golden["products"]);
  for (size_t k = 0; k < products.size(); ++k) {
    worst = std::max(worst, std::abs(products[k] - theirs.at(k)));
  }
  return worst / norm;
}

TEST_P(GoldenAdapter, GradientsOfAAndBEqualPeft) {
  const host::OpenedModel& opened = *session_.OpenModel(golden_.base, "", golden_.folder).value();
  const auto model = session_.LoadModel(opened, {.for_training = true}).value();
  ASSERT_TRUE(session_.EnsurePlugins().ok());
  const auto loss = session_.plugins().Create("loss", "sft", "", {}).value();
  const auto adamw = session_.plugins().Create("optimizer", "adamw", "", {}).value();
  engine::TrainerOptions options;
  options.losses.push_back({.name = "sft",
                            .table = static_cast<const retort_token_loss_v1*>(
                                loss.interface(RETORT_TOKEN_LOSS_INTERFACE)),
                            .instance = loss.get()});
  options.optimizer = {
      .name = "adamw",
      .table = static_cast<const retort_optimizer_v1*>(adamw.interface(RETORT_OPTIMIZER_INTERFACE)),
      .instance = adamw.get()};
  options.max_grad_norm = 0;
  options.adapter = 0;
  const auto trainer = model->NewTrainer(options).value();
  const json::Value window = golden_.Of("window")[0];
  const std::vector<engine::MicroBatch> batches = {BatchOf(window)};
  const auto step = trainer->Step(batches, 0, 0, nullptr);
  ASSERT_TRUE(step.ok()) << step.status().ToString();
  EXPECT_NEAR(step->loss, window["loss"].DoubleOr(NAN), 1e-5 * step->loss);
  std::map<std::string, TensorView> ours;
  for (const engine::StateTensor& tensor : trainer->Gradients()) ours[tensor.name] = tensor.view;
  const auto theirs = golden_.Of("gradient");
  ASSERT_EQ(ours.size(), theirs.size());
  double worst = 0;
  for (const json::Value& line : theirs) {
    const std::string name(line["name"].StringOr(""));
    ASSERT_TRUE(ours.contains(name)) << name;
    const double difference = Difference(ours.at(name), line);
    EXPECT_LE(difference, kGradientTolerance) << name;
    worst = std::max(worst, difference);
  }
  // The optimizer keeps two moments of A and B alone.
  EXPECT_EQ(trainer->State().size(), 2 * theirs.size());
  std::printf("%s: worst difference of %zu gradients %.3g of their norm\n", GetParam(), ours.size(),
              worst);
}

std::string DataOf(const std::vector<json::Value>& steps) {
  std::string lines;
  for (const json::Value& step : steps) {
    const json::Value documents = step["documents"];
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

std::string PipelineOf(const Golden& golden, size_t n_steps) {
  const json::Value options = golden.head()["options"];
  json::Writer w;
  w.BeginObject().Field("retort", 1).Field("name", "adapter");
  w.Key("models").BeginObject().Key("student").BeginObject().Field("path", golden.base);
  w.Field("adapter", golden.folder).EndObject().EndObject();
  w.Key("data").BeginObject().Field("texts", "data.jsonl").EndObject();
  w.Key("stages").BeginArray().BeginObject();
  w.Field("name", "sft").Field("kind", "sft").Field("model", "student").Field("data", "texts");
  w.Key("lora").Copy(golden.head()["lora"]);
  w.Field("packing", "none").Field("shuffle", false).Field("max_length", 1024);
  w.Key("batch").BeginObject().Key("per_device").Copy(options["per_device"]);
  w.Key("accumulation").Copy(options["accumulation"]).EndObject();
  w.Field("max_steps", static_cast<int64_t>(n_steps)).Field("logging_steps", 1);
  w.Field("save_steps", 0).Key("learning_rate").Copy(options["learning_rate"]);
  w.Field("schedule", "constant").Key("max_grad_norm").Copy(options["max_grad_norm"]);
  w.Key("optimizer").BeginObject().Field("plugin", "adamw").Key("config").BeginObject();
  for (const char* key : {"weight_decay", "eps"}) w.Key(key).Copy(options[key]);
  w.Key("betas").BeginArray().Copy(options["beta1"]).Copy(options["beta2"]).EndArray();
  w.EndObject().EndObject().EndObject().EndArray().EndObject();
  return w.Take();
}

TEST_P(GoldenAdapter, FiveStepsEqualPeftAndTorch) {
  const auto golden = golden_.Of("step");
  ASSERT_EQ(golden.size(), 5U);
  const std::string folder = ScratchFolder("adapter-" + std::string(GetParam()));
  WriteText(folder + "/data.jsonl", DataOf(golden));
  WriteText(folder + "/pipeline.json", PipelineOf(golden_, golden.size()));
  const Outcome run =
      RunRetort({"run", folder + "/pipeline.json", "--set", "output=" + folder + "/run"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  std::vector<json::Document> steps;
  for (json::Document& line : ReadLines(folder + "/run/metrics.jsonl")) {
    if (line.root()["loss"]) steps.push_back(std::move(line));
  }
  ASSERT_EQ(steps.size(), golden.size());
  for (size_t i = 0; i < steps.size(); ++i) {
    const double loss = golden[i]["loss"].DoubleOr(0), norm = golden[i]["grad_norm"].DoubleOr(0);
    const double tolerance = i == 0 ? kLossTolerance : kLaterTolerance;
    EXPECT_NEAR(steps[i].root()["loss"].DoubleOr(NAN), loss, tolerance * loss) << "step " << i + 1;
    EXPECT_NEAR(steps[i].root()["grad_norm"].DoubleOr(NAN), norm, kGradNormTolerance * norm)
        << "step " << i + 1;
  }
  // The checkpoint is a PEFT folder beside the same base.
  const auto trained = session_.OpenModel(folder + "/run/sft/checkpoint-5");
  ASSERT_TRUE(trained.ok()) << trained.status().ToString();
  ASSERT_TRUE((*trained)->adapter.has_value());
  EXPECT_EQ((*trained)->base_path(), golden_.base);
  const auto model = session_.LoadModel(**trained);
  ASSERT_TRUE(model.ok()) << model.status().ToString();
}

INSTANTIATE_TEST_SUITE_P(Peft, GoldenAdapter,
                         testing::Values("llama_ranks", "phi3_rslora", "qwen2_regex"),
                         [](const auto& param) { return std::string(param.param); });

}  // namespace
}  // namespace retort::golden
