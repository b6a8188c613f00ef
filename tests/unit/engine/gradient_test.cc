// Whole-model gradients in f64, and what they and the loss must not depend on.
// SPDX-License-Identifier: Apache-2.0
#include "core/engine/edge.h"
#include "core/engine/gradients.h"
#include "core/engine/pass.h"
#include "core/engine/token_losses.h"
#include "tests/unit/engine/tiny_model.h"

namespace retort::engine::test {
namespace {

constexpr int kThreads = 1;  // thousands of tiny passes: a second thread would only spin

// Loss and gradients of a window in f64.
class Window {
 public:
  Window(TinyModel<double>& model, std::vector<TokenLoss> losses, int64_t head_rows = 0)
      : model_(model),
        pass_(model.graph, model.views, Mode::kTraining, kThreads),
        grads_(model.graph, DType::kF64) {
    SetThreads(kThreads);
    auto made = TokenLosses::Make(model.graph, model.views, std::move(losses), head_rows, kThreads);
    EXPECT_TRUE(made.ok()) << made.status().ToString();
    losses_ = std::move(made).value();
  }

  double Run(const std::vector<MicroBatch>& window, bool want_grad) {
    int64_t labels = 0;
    for (const MicroBatch& batch : window) labels += CountLabels(batch);
    losses_->BeginWindow();
    grads_.Begin();
    for (const MicroBatch& batch : window) {
      const TensorView hidden = pass_.Forward(RowsOf(batch), nullptr);
      const TensorView d_hidden = pass_.HiddenGradient();
      HeadLossInputs inputs{
          .batch = batch, .hidden_TD = hidden, .n_labels = static_cast<double>(labels)};
      if (want_grad) {
        inputs.d_hidden_TD = &d_hidden;
        inputs.grads = &grads_;
      }
      const Status status = losses_->Run(inputs, {});
      EXPECT_TRUE(status.ok()) << status.ToString();
      if (want_grad) pass_.Backward(grads_);
    }
    if (want_grad) grads_.Finish();
    return losses_->loss() + pass_.MeasureRouters().weighted;
  }

  std::vector<double> Gradient(size_t param) const {
    const TensorView& view = grads_.view(static_cast<int32_t>(param));
    return {view.as<double>(), view.as<double>() + view.numel()};
  }
  const TinyModel<double>& model() const { return model_; }

 private:
  TinyModel<double>& model_;
  Pass pass_;
  Gradients grads_;
  std::unique_ptr<TokenLosses> losses_;
};

// Central differences; products of custom ops and row ops need those of fourth order.
double Slope(Window& window, const std::vector<MicroBatch>& batches, double& w, bool fourth) {
  const double kept = w;
  const auto difference = [&](double step) {
    w = kept + step;
    const double above = window.Run(batches, false);
    w = kept - step;
    const double below = window.Run(batches, false);
    w = kept;
    return (above - below) / (2 * step);
  };
  if (!fourth) return difference(1e-5);
  return (4 * difference(1e-4) - difference(2e-4)) / 3;
}

void CheckGradients(const TinySpec& spec) {
  constexpr double kTolerance = 2e-8;
  TinyModel<double> model(spec);
  Window window(model, {CrossEntropy()});
  const std::vector<MicroBatch> batches = {Documents({5, 3, 4}, spec.vocab)};
  const bool fourth = spec.custom_ops || spec.row_ops;
  window.Run(batches, true);
  for (size_t p = 0; p < model.storage.size(); ++p) {
    const std::vector<double> gradient = window.Gradient(p);
    for (size_t i = 0; i < gradient.size(); ++i) {
      const double slope = Slope(window, batches, model.storage[p][i], fourth);
      ASSERT_NEAR(gradient[i], slope, kTolerance) << model.graph.params[p].name << " [" << i << "]";
    }
  }
}

TEST(ModelGradient, TiedHeadMatchesCentralDifferences) { CheckGradients({}); }
TEST(ModelGradient, SeparateHeadWithScaleAndSoftCap) {
  CheckGradients({.layers = 1, .tied = false, .logit_scale = 0.7, .soft_cap = 2});
}
TEST(ModelGradient, Experts) { CheckGradients({.experts = true}); }
TEST(ModelGradient, ExpertsWithTheirBalanceInTheLoss) {
  CheckGradients({.experts = true, .aux_coef = 0.3});
}
TEST(ModelGradient, CustomOps) { CheckGradients({.custom_ops = true}); }
TEST(ModelGradient, RowOps) { CheckGradients({.layers = 2, .row_ops = true}); }
TEST(ModelGradient, RowOpsWithBranchFirst) {
  CheckGradients({.layers = 1, .branch_first = true, .row_ops = true});
}
TEST(ModelGradient, BranchFirstInEverySum) { CheckGradients({.branch_first = true}); }

void ExpectSameGradients(const Window& a, const Window& b, double tolerance) {
  for (size_t p = 0; p < a.model().storage.size(); ++p) {
    const std::vector<double> x = a.Gradient(p), y = b.Gradient(p);
    for (size_t i = 0; i < x.size(); ++i) {
      ASSERT_NEAR(x[i], y[i], tolerance) << a.model().graph.params[p].name << " [" << i << "]";
    }
  }
}

TEST(LossInvariance, PackingAndAccumulationChangeNothing) {
  const TinySpec spec;
  TinyModel<double> model(spec);
  Window packed(model, {CrossEntropy()}), alone(model, {CrossEntropy()});
  const double want = packed.Run({Documents({5, 3, 9}, spec.vocab)}, true);
  const double got = alone.Run(
      {Documents({5}, spec.vocab, 0), Documents({3}, spec.vocab, 1), Documents({9}, spec.vocab, 2)},
      true);
  EXPECT_NEAR(got, want, 1e-12);
  ExpectSameGradients(packed, alone, 1e-12);
}

TEST(LossInvariance, HeadChunkSizeChangesNothing) {
  const TinySpec spec;
  TinyModel<double> model(spec);
  const std::vector<MicroBatch> batches = {Documents({12, 3, 9}, spec.vocab)};
  Window whole(model, {CrossEntropy()});
  const double want = whole.Run(batches, true);
  for (const int64_t rows : {1, 2, 7}) {
    Window chunked(model, {CrossEntropy()}, rows);
    EXPECT_NEAR(chunked.Run(batches, true), want, 1e-12) << rows;
    ExpectSameGradients(whole, chunked, 1e-12);
  }
}

TEST(LossInvariance, AChainIsTheWeightedSumOfItsLosses) {
  const TinySpec spec{.soft_cap = 3};
  TinyModel<double> model(spec);
  const std::vector<MicroBatch> batches = {Documents({12, 3}, spec.vocab)};
  Window one(model, {CrossEntropy("a", 1.0)});
  Window chain(model, {CrossEntropy("a", 0.5), CrossEntropy("b", 0.75), CrossEntropy("c", -0.25)});
  EXPECT_NEAR(chain.Run(batches, true), one.Run(batches, true), 1e-12);
  ExpectSameGradients(one, chain, 1e-12);
}

TEST(LossInvariance, RowsOfWeightZeroAreAsIfUnlabelled) {
  const TinySpec spec;
  TinyModel<double> model(spec);
  MicroBatch masked = Documents({12}, spec.vocab), unlabelled = masked;
  for (size_t t = 3; t < 6; ++t) masked.weight[t] = 0, unlabelled.labels[t] = -100;
  Window a(model, {CrossEntropy()}), b(model, {CrossEntropy()});
  EXPECT_EQ(a.Run({masked}, true), b.Run({unlabelled}, true));
  ExpectSameGradients(a, b, 0);
}

}  // namespace
}  // namespace retort::engine::test
