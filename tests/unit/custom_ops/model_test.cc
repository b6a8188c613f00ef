// The whole example model: logits and gradients against torch and central differences, packing,
// training steps.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <cmath>
#include <map>

#include "core/engine/pass.h"
#include "core/engine/token_losses.h"
#include "core/train/trainer.h"
#include "tests/unit/custom_ops/hybrid_model.h"
#include "tests/unit/engine/golden_values.h"
#include "tests/unit/engine/tiny_model.h"

namespace retort::host {
namespace {

using engine::MicroBatch;
using engine::test::Documents;

std::map<std::string, std::vector<double>> Golden() {
  std::map<std::string, std::vector<double>> cases;
  for (auto& [name, values] : engine::test::ReadGolden("tests/golden/hybrid.golden")) {
    cases[name] = values;
  }
  return cases;
}

// One document of these ids; every token predicts the next.
MicroBatch Document(const std::vector<double>& ids) {
  MicroBatch batch;
  for (size_t t = 0; t < ids.size(); ++t) {
    batch.ids.push_back(static_cast<int32_t>(ids[t]));
    batch.positions.push_back(static_cast<int32_t>(t));
    batch.labels.push_back(t + 1 < ids.size() ? static_cast<int64_t>(ids[t + 1]) : -100);
    batch.weight.push_back(1);
  }
  batch.cu_seqlens = {0, static_cast<int32_t>(ids.size())};
  return batch;
}

template <class T>
void ExpectTorchLogits(double tolerance) {
  const auto golden = Golden();
  HybridModel<T> model;
  const MicroBatch batch = Document(golden.at("ids"));
  const std::vector<T> got = model.Logits(engine::test::RowsOf(batch));
  const std::vector<double>& want = golden.at("logits");
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], want[i], tolerance * std::max(1.0, std::abs(want[i]))) << i;
  }
}

TEST(HybridModel, LogitsEqualTorch) {
  ExpectTorchLogits<double>(1e-11);
  ExpectTorchLogits<float>(2e-5);
}

TEST(HybridModel, TheGraphIsShownWithOpsAttributesAndWeights) {
  HybridModel<float> model;
  const std::string text = graph::Print(model.graph());
  EXPECT_THAT(text, testing::HasSubstr("short_conv {\"kernel_size\":3}"));
  EXPECT_THAT(text, testing::HasSubstr("xielu {\"beta\":0.5}"));
  EXPECT_THAT(text, testing::HasSubstr("model.layers.2.conv.conv.weight [16, 1, 3]"));
  EXPECT_THAT(text, testing::HasSubstr("<- model.layers.0.conv.in_proj.weight[16:32]"));
}

// Loss and gradients in f64.
class Gradients64 {
 public:
  explicit Gradients64(HybridModel<double>& model)
      : pass_(model.graph(), model.views(), engine::Mode::kTraining, kThreads),
        grads_(model.graph(), DType::kF64) {
    losses_ = engine::TokenLosses::Make(model.graph(), model.views(),
                                        {engine::test::CrossEntropy()}, 0, kThreads)
                  .value();
  }
  double Run(const MicroBatch& batch, bool want_grad) {
    losses_->BeginWindow();
    const TensorView hidden = pass_.Forward(engine::test::RowsOf(batch), nullptr);
    const TensorView d_hidden = pass_.HiddenGradient();
    engine::HeadLossInputs inputs{.batch = batch,
                                  .hidden_TD = hidden,
                                  .n_labels = static_cast<double>(engine::CountLabels(batch))};
    if (want_grad) inputs.d_hidden_TD = &d_hidden, inputs.grads = &grads_;
    grads_.Begin();
    const Status status = losses_->Run(inputs, {});
    EXPECT_TRUE(status.ok()) << status.ToString();
    if (want_grad) {
      pass_.Backward(grads_);
      grads_.Finish();
    }
    return losses_->loss();
  }
  const double* Of(size_t param) const {
    return grads_.view(static_cast<int32_t>(param)).as<double>();
  }

 private:
  engine::Pass pass_;
  engine::Gradients grads_;
  std::unique_ptr<engine::TokenLosses> losses_;
};

TEST(HybridModel, GradientsEqualTorchsAutograd) {
  const auto golden = Golden();
  HybridModel<double> model;
  Gradients64 gradients(model);
  gradients.Run(Document(golden.at("ids")), true);
  size_t compared = 0;
  for (size_t p = 0; p < model.graph().params.size(); ++p) {
    const auto found = golden.find("gradient " + model.graph().params[p].name);
    if (found == golden.end()) continue;  // a part of in_proj, checked below
    ++compared;
    for (size_t i = 0; i < found->second.size(); ++i) {
      ASSERT_NEAR(gradients.Of(p)[i], found->second[i], 1e-12) << found->first << " " << i;
    }
  }
  EXPECT_EQ(compared, model.graph().params.size() - 6);
}

TEST(HybridModel, GradientsEqualCentralDifferences) {
  constexpr double kStep = 1e-6;  // small: xielu's second derivative jumps at 0
  HybridModel<double> model;
  Gradients64 gradients(model);
  const MicroBatch batch = Documents({6, 1, 4, 2}, model.graph().vocab());
  gradients.Run(batch, true);
  std::vector<std::vector<double>> analytic;
  for (size_t p = 0; p < model.graph().params.size(); ++p) {
    analytic.emplace_back(gradients.Of(p), gradients.Of(p) + model.Weights(p).size());
  }
  for (size_t p = 0; p < analytic.size(); ++p) {
    const size_t step = std::max<size_t>(1, analytic[p].size() / 24);
    for (size_t i = 0; i < analytic[p].size(); i += step) {
      double& w = model.Weights(p)[i];
      const double kept = w;
      w = kept + kStep;
      const double above = gradients.Run(batch, false);
      w = kept - kStep;
      const double below = gradients.Run(batch, false);
      w = kept;
      ASSERT_NEAR(analytic[p][i], (above - below) / (2 * kStep), 1e-7)
          << model.graph().params[p].name << " " << i;
    }
  }
}

TEST(HybridModel, PackedDocumentsAreAsIfAlone) {
  HybridModel<float> model;
  const int64_t vocab = model.graph().vocab();
  const std::vector<int32_t> lengths = {9, 1, 2, 30};
  const std::vector<float> packed = model.Logits(engine::test::RowsOf(Documents(lengths, vocab)));
  auto at = packed.begin();
  for (size_t d = 0; d < lengths.size(); ++d) {
    const MicroBatch alone = Documents({lengths[d]}, vocab, d);
    for (const float want : model.Logits(engine::test::RowsOf(alone))) {
      ASSERT_NEAR(*at++, want, 2e-5 * std::max(1.0F, std::abs(want))) << d;
    }
  }
}

TEST(HybridModel, TrainingStepsWithBuiltInPluginsLowerTheLoss) {
  HybridModel<float> model;
  PluginRegistry& plugins = model.session().plugins();
  const PluginInstance loss = plugins.Create("loss", "sft", "", {}).value();
  const PluginInstance adamw = plugins.Create("optimizer", "adamw", "", {}).value();
  engine::TrainerOptions options;
  options.losses = {{.name = "sft",
                     .table = static_cast<const retort_token_loss_v1*>(
                         loss.interface(RETORT_TOKEN_LOSS_INTERFACE)),
                     .instance = loss.get()}};
  options.optimizer = {
      .name = "adamw",
      .table = static_cast<const retort_optimizer_v1*>(adamw.interface(RETORT_OPTIMIZER_INTERFACE)),
      .instance = adamw.get()};
  auto trainer = train::MakeTrainer(model.graph(), model.views(), options, kThreads).value();
  const std::vector<MicroBatch> window = {Documents({12, 20}, model.graph().vocab()),
                                          Documents({7}, model.graph().vocab(), 2)};
  const auto before = model.Weights(model.graph().params.size() - 1);
  double first = 0, last = 0;
  for (int64_t step = 0; step < 30; ++step) {
    const auto result = trainer->Step(window, 5e-3, step, nullptr);
    ASSERT_TRUE(result.ok()) << result.status().ToString();
    (step == 0 ? first : last) = result->loss;
  }
  EXPECT_LT(last, 0.5 * first) << first;
  EXPECT_NE(model.Weights(model.graph().params.size() - 1), before);
}

}  // namespace
}  // namespace retort::host
