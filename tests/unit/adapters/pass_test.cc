// Passes with adapters: what they compute, their gradients in f64, and what must not matter.
// SPDX-License-Identifier: Apache-2.0
#include "core/engine/pass.h"

#include <cstring>

#include "core/engine/edge.h"
#include "core/engine/score.h"
#include "core/engine/token_losses.h"
#include "tests/unit/adapters/adapted_model.h"
#include "tests/unit/engine/count_allocations.h"

namespace retort::engine::test {
namespace {

using graph::LoraSpec;

constexpr int kThreads = 1;

template <class T>
std::vector<T> Hidden(const AdaptedModel<T>& model, const MicroBatch& batch, int32_t adapter) {
  Pass pass(model.graph, model.views, Mode::kInference, kThreads);
  pass.SetAdapter(adapter);
  const TensorView hidden = pass.Forward(RowsOf(batch), nullptr);
  return {hidden.as<T>(), hidden.as<T>() + hidden.numel()};
}

template <class T>
void ExpectNear(const std::vector<T>& got, const std::vector<T>& want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], tolerance) << i;
}

TEST(AdapterPass, AddsScaleBAToTheWeights) {
  AdaptedModel<double> model(Specs{{.r = 3, .alpha = 5, .targets = {"q", "gate"}}});
  const MicroBatch batch = Documents({5, 20}, 29);
  const std::vector<double> base = Hidden(model, batch, -1), got = Hidden(model, batch, 0);
  for (const char* module : {"layers.0.q", "layers.0.gate", "layers.1.q", "layers.1.gate"}) {
    MergePlainly(model, std::string(module) + ".weight", module, "default", 5.0 / 3);
  }
  ExpectNear(got, Hidden(model, batch, -1), 1e-12);
  double change = 0;
  for (size_t i = 0; i < got.size(); ++i) change = std::max(change, std::abs(got[i] - base[i]));
  EXPECT_GT(change, 0.1);
}

TEST(AdapterPass, AModuleIsOneMatrixHoweverTheGraphCutsIt) {
  AdaptedModel<double> model(Specs{{.r = 3, .alpha = 6, .rslora = true}}, /*fused=*/true);
  const MicroBatch batch = Documents({5, 20}, 29);
  const std::vector<double> got = Hidden(model, batch, 0);
  const double scale = 6 / std::sqrt(3.0);
  for (const std::string at : {"layers.0.", "layers.1."}) {
    MergePlainly(model, at + "q.weight", at + "qkv", "default", scale, 0);
    MergePlainly(model, at + "k.weight", at + "qkv", "default", scale, 16);
    MergePlainly(model, at + "v.weight", at + "qkv", "default", scale, 24);
    MergePlainly(model, at + "up.weight", at + "up1", "default", scale, 0, 0, 8);
    MergePlainly(model, at + "up.weight", at + "up2", "default", scale, 0, 8, 16);
    for (const char* module : {"o", "gate", "down"}) {
      MergePlainly(model, at + module + ".weight", at + module, "default", scale);
    }
  }
  ExpectNear(got, Hidden(model, batch, -1), 1e-11);
}

TEST(AdapterPass, ZeroBIsTheBase) {
  AdaptedModel<float> model(Specs{{.r = 3}});
  for (size_t p = 0; p < model.graph.params.size(); ++p) {
    if (model.graph.params[p].name.find("lora_B") == std::string::npos) continue;
    std::fill(model.storage[p].begin(), model.storage[p].end(), 0.0F);
  }
  for (const int32_t length : {3, 40}) {
    const MicroBatch batch = Documents({length}, 29);
    EXPECT_EQ(Hidden(model, batch, 0), Hidden(model, batch, -1)) << length;
  }
}

TEST(AdapterPass, FewRowsDontDependOnTheirNeighbours) {
  AdaptedModel<float> model(Specs{{.r = 3, .alpha = 5}});
  const std::vector<float> alone = Hidden(model, Documents({4}, 29), 0);
  const std::vector<float> beside = Hidden(model, Documents({4, 7, 5}, 29), 0);
  EXPECT_TRUE(std::equal(alone.begin(), alone.end(), beside.begin()));
}

TEST(AdapterPass, FewRowsAndManyAgree) {
  AdaptedModel<float> model(Specs{{.r = 3, .alpha = 5}}, /*fused=*/true);
  const std::vector<float> few = Hidden(model, Documents({9}, 29), 0);
  const std::vector<float> many = Hidden(model, Documents({9, 30}, 29), 0);
  ExpectNear(few, std::vector<float>(many.begin(), many.begin() + static_cast<long>(few.size())),
             2e-5);
}

TEST(AdapterPass, SeveralLieSideBySide) {
  AdaptedModel<float> model(Specs{{.name = "a", .r = 3, .alpha = 5, .targets = {"q", "down"}},
                                  {.name = "b", .r = 5, .alpha = 2, .targets = {"q", "v"}}});
  AdaptedModel<float> only_a(Specs{{.name = "a", .r = 3, .alpha = 5, .targets = {"q", "down"}}});
  for (size_t p = 0; p < only_a.graph.params.size(); ++p) {
    only_a.storage[p] = model.Values(only_a.graph.params[p].name);
    only_a.views[p].data = only_a.storage[p].data();
  }
  const MicroBatch batch = Documents({9, 12}, 29);
  Pass pass(model.graph, model.views, Mode::kInference, kThreads);
  const auto run = [&](int32_t adapter) {
    pass.SetAdapter(adapter);
    const TensorView hidden = pass.Forward(RowsOf(batch), nullptr);
    return std::vector<float>(hidden.as<float>(), hidden.as<float>() + hidden.numel());
  };
  const std::vector<float> base = run(-1), a = run(0), b = run(1);
  EXPECT_EQ(a, Hidden(only_a, batch, 0));
  EXPECT_NE(a, b);
  EXPECT_EQ(run(-1), base);
  EXPECT_EQ(run(0), a);
  EXPECT_EQ(run(1), b);
  EXPECT_THROW(pass.SetAdapter(2), Error);
  EXPECT_THROW(pass.SetAdapter(-2), Error);
}

TEST(AdapterPass, ADecodePassAllocatesNothing) {
  AdaptedModel<float> model(Specs{{.r = 3}});
  Inference inference(model.graph, model.views, kThreads);
  inference.SetAdapter(0);
  const MicroBatch batch = Documents({4}, 29);
  inference.Forward(RowsOf(batch), nullptr);
  StartCounting();
  inference.Forward(RowsOf(batch), nullptr);
  EXPECT_EQ(StopCounting(), 0);
}

TEST(AdapterScore, EachRequestGetsItsOwn) {
  AdaptedModel<float> model(Specs{{.name = "a", .r = 3, .alpha = 5}, {.name = "b", .r = 2}});
  Inference inference(model.graph, model.views, kThreads);
  const std::vector<int32_t> ids = Documents({9}, 29).ids;
  const auto score = [&](std::vector<int32_t> adapters) {
    std::vector<ScoreRequest> requests;
    for (const int32_t adapter : adapters) requests.push_back({.ids = ids, .adapter = adapter});
    auto scored =
        Score(inference, model.graph, model.views, requests, 0, nullptr, nullptr, kThreads);
    EXPECT_TRUE(scored.ok());
    std::vector<std::vector<float>> logp;
    for (const ScoreResult& result : *scored) logp.push_back(result.logp);
    return logp;
  };
  const auto base = score({-1})[0], a = score({0})[0], b = score({1})[0];
  EXPECT_NE(a, base);
  EXPECT_NE(a, b);
  const auto mixed = score({1, -1, 0, 1});
  const std::vector<std::vector<float>> want = {b, base, a, b};
  for (size_t i = 0; i < want.size(); ++i) ExpectNear(mixed[i], want[i], 1e-5);
}

// Loss and gradients of an adapter in f64, with dropout by a fixed step.
class AdapterWindow {
 public:
  AdapterWindow(AdaptedModel<double>& model, int32_t adapter, int64_t step, int32_t recompute = 0)
      : model_(model),
        step_(step),
        pass_(model.graph, model.views, Mode::kTraining, kThreads, adapter, recompute),
        grads_(model.graph, DType::kF64, adapter) {
    SetThreads(kThreads);
    auto made = TokenLosses::Make(model.graph, model.views, {CrossEntropy()}, 0, kThreads);
    EXPECT_TRUE(made.ok()) << made.status().ToString();
    losses_ = std::move(made).value();
  }

  double Run(const std::vector<MicroBatch>& batches, bool want_grad) {
    int64_t labels = 0;
    for (const MicroBatch& batch : batches) labels += CountLabels(batch);
    losses_->BeginWindow();
    grads_.Begin();
    for (size_t i = 0; i < batches.size(); ++i) {
      RowBatch rows = RowsOf(batches[i]);
      rows.call.step = step_;
      rows.call.key = {.hi = 5, .lo = i};
      const TensorView hidden = pass_.Forward(rows, nullptr);
      const TensorView d_hidden = pass_.HiddenGradient();
      HeadLossInputs inputs{
          .batch = batches[i], .hidden_TD = hidden, .n_labels = static_cast<double>(labels)};
      if (want_grad) inputs.d_hidden_TD = &d_hidden, inputs.grads = &grads_;
      EXPECT_TRUE(losses_->Run(inputs, {}).ok());
      if (want_grad) pass_.Backward(grads_);
    }
    if (want_grad) grads_.Finish();
    return losses_->loss();
  }
  const Gradients& grads() const { return grads_; }

 private:
  AdaptedModel<double>& model_;
  const int64_t step_;
  Pass pass_;
  Gradients grads_;
  std::unique_ptr<TokenLosses> losses_;
};

void CheckGradients(const std::vector<LoraSpec>& adapters, int32_t adapter, bool fused,
                    int64_t step) {
  AdaptedModel<double> model(adapters, fused);
  AdapterWindow window(model, adapter, step);
  const std::vector<MicroBatch> batches = {Documents({5, 3, 4}, 29), Documents({6}, 29, 5)};
  window.Run(batches, true);
  int checked = 0;
  for (size_t p = 0; p < model.storage.size(); ++p) {
    const auto index = static_cast<int32_t>(p);
    ASSERT_EQ(window.grads().Wanted(index), model.graph.params[p].adapter == adapter);
    if (!window.grads().Wanted(index)) continue;
    const TensorView& view = window.grads().view(index);
    const std::vector<double> gradient(view.as<double>(), view.as<double>() + view.numel());
    for (size_t i = 0; i < gradient.size(); ++i, ++checked) {
      double& w = model.storage[p][i];
      const double kept = w;
      const auto difference = [&](double h) {
        w = kept + h;
        const double above = window.Run(batches, false);
        w = kept - h;
        const double below = window.Run(batches, false);
        w = kept;
        return (above - below) / (2 * h);
      };
      ASSERT_NEAR(gradient[i], (4 * difference(1e-4) - difference(2e-4)) / 3, 1e-8)
          << model.graph.params[p].name << " [" << i << "]";
    }
  }
  EXPECT_GT(checked, 100);
}

TEST(AdapterGradient, MatchesCentralDifferences) {
  CheckGradients({{.r = 3, .alpha = 5}}, 0, false, -1);
}
TEST(AdapterGradient, WithDropout) {
  CheckGradients({{.r = 3, .alpha = 5, .dropout = 0.3}}, 0, false, 4);
}
TEST(AdapterGradient, OfModulesThatTheGraphCuts) {
  CheckGradients({{.r = 2, .alpha = 5, .dropout = 0.3}}, 0, true, 4);
}
TEST(AdapterGradient, OfOneOfTwo) {
  CheckGradients({{.name = "a", .r = 2}, {.name = "b", .r = 3, .targets = {"o", "up"}}}, 1, false,
                 4);
}
TEST(AdapterGradient, OfTheLastModuleAlone) {
  CheckGradients({{.r = 4, .targets = {"layers.1.down", "layers.1.up"}}}, 0, false, 0);
}

TEST(AdapterDropout, FollowsFromTheKeyAndIsOffOutsideOfSteps) {
  const std::vector<LoraSpec> adapters = {{.r = 3, .alpha = 5, .dropout = 0.3}};
  AdaptedModel<double> model(adapters);
  const std::vector<MicroBatch> batches = {Documents({5, 3, 4}, 29)};
  const double evaluated = AdapterWindow(model, 0, -1).Run(batches, false);
  const double trained = AdapterWindow(model, 0, 7).Run(batches, false);
  EXPECT_EQ(AdapterWindow(model, 0, 7).Run(batches, true), trained);
  EXPECT_NE(trained, evaluated);
  AdaptedModel<double> without(Specs{{.r = 3, .alpha = 5}});
  EXPECT_EQ(AdapterWindow(without, 0, 7).Run(batches, false), evaluated);
}

// What backward computes again drops again what forward dropped.
TEST(AdapterDropout, RecomputeChangesNoBit) {
  AdaptedModel<double> model(Specs{{.r = 3, .alpha = 5, .dropout = 0.3}}, /*fused=*/true);
  const std::vector<MicroBatch> batches = {Documents({5, 3, 4}, 29), Documents({6}, 29, 5)};
  AdapterWindow kept(model, 0, 7);
  const double loss = kept.Run(batches, true);
  for (const int32_t level : {1, 2}) {
    AdapterWindow again(model, 0, 7, level);
    EXPECT_EQ(again.Run(batches, true), loss);
    for (size_t p = 0; p < model.graph.params.size(); ++p) {
      const auto index = static_cast<int32_t>(p);
      if (!kept.grads().Wanted(index)) continue;
      const TensorView &a = kept.grads().view(index), &b = again.grads().view(index);
      EXPECT_EQ(std::memcmp(a.data, b.data, static_cast<size_t>(a.bytes())), 0)
          << model.graph.params[p].name << " " << level;
    }
  }
}

// A module that nodes share drops the same inputs for all of them, as one product would: with q's
// and k's rows equal and the same B, dropout keeps q equal to k.
TEST(AdapterDropout, NodesOfAModuleDropAlike) {
  AdaptedModel<double> model(Specs{{.r = 2, .alpha = 5, .dropout = 0.5}}, /*fused=*/true);
  EXPECT_EQ(model.graph.nodes.size(), TinyFamily({}).Build().nodes.size());
  std::vector<int32_t> a;
  for (const graph::Node& node : model.graph.nodes) {
    if (node.block == 0 && node.lora.size() == 1) a.push_back(node.lora[0].a);
  }
  ASSERT_GE(a.size(), 3U);
  EXPECT_EQ(a[0], a[1]);
  EXPECT_EQ(a[1], a[2]);
}

}  // namespace
}  // namespace retort::engine::test
