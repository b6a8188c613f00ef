// A whole graph with layers of experts: the same numbers in any packing and mode, memory by the
// plan, the load-balancing loss. Its gradients are checked in gradient_test.cc.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "tests/unit/engine/count_allocations.h"
#include "tests/unit/engine/whole_graph.h"

namespace retort::engine::test {
namespace {

constexpr int kThreads = 1;
const TinySpec kSpec{.experts = true, .aux_coef = 0.25};

TEST(Experts, PackedDocumentsAreAsIfAlone) { ExpectPackedAsIfAlone(kSpec); }

TEST(Experts, InferenceEqualsTheTrainingForward) { ExpectInferenceEqualsTraining(kSpec); }

// An embedding, a router and its experts.
graph::Graph OnlyExperts() {
  graph::Builder builder("experts");
  const retort_builder_v1* t = builder.table();
  const auto param = [&](const char* name, const std::vector<int64_t>& shape) {
    return AddParam(t, name, shape);
  };
  const retort_value x = t->embed(t->ctx, param("embed", {7, 32}), 1);
  retort_moe_spec moe{};
  moe.struct_size = sizeof(moe);
  moe.n_experts = 6;
  moe.top_k = 2;
  moe.gate_up = param("gate_up", {6, 80, 32});
  moe.down = param("down", {6, 32, 40});
  moe.aux_coef = 0.1;
  const retort_value logits = t->linear(t->ctx, x, param("router", {6, 32}), {0});
  t->result(t->ctx, t->moe(t->ctx, x, logits, &moe), param("head", {7, 32}), 1, 0);
  auto graph = builder.Finish();
  EXPECT_TRUE(graph.ok()) << graph.status().ToString();
  return std::move(graph).value();
}

TEST(Experts, ASteadyStepAllocatesNothing) {
  const graph::Graph graph = OnlyExperts();
  std::vector<std::vector<float>> weights;
  std::vector<TensorView> params;
  Rng rng(RngKey{0, 3});
  for (const graph::Param& p : graph.params) {
    for (float& v : weights.emplace_back(static_cast<size_t>(p.numel()))) {
      v = static_cast<float>(0.3 * rng.Normal());
    }
    params.push_back(TensorView::Contiguous(weights.back().data(), DType::kF32, p.shape));
  }
  Pass pass(graph, params, Mode::kTraining, 2);
  Gradients grads(graph, DType::kF32);
  const MicroBatch batch = Documents({400, 300}, 7);
  const auto step = [&] {
    grads.Begin();
    pass.Forward(RowsOf(batch), nullptr);
    const TensorView d = pass.HiddenGradient();
    std::fill_n(d.as<float>(), d.numel(), 1e-3F);
    pass.MeasureRouters();
    pass.Backward(grads);
    grads.Finish();
  };
  step();
  StartCounting();
  for (int i = 0; i < 3; ++i) step();
  EXPECT_EQ(StopCounting(), 0);
}

// The loss counts all layers together; running a pass again doesn't add to it.
TEST(Experts, TheBalanceLossIsOfTheLastForward) {
  TinyModel<double> model(kSpec);
  Pass pass(model.graph, model.views, Mode::kTraining, kThreads);
  EXPECT_TRUE(pass.has_routers());
  const MicroBatch batch = Documents({12, 9}, kSpec.vocab);
  pass.Forward(RowsOf(batch), nullptr);
  const RouterLoss once = pass.MeasureRouters();
  EXPECT_GE(once.value, 2 - 1e-9);  // top_k: when every expert gets as much
  EXPECT_DOUBLE_EQ(once.weighted, 0.25 * once.value);
  pass.Forward(RowsOf(batch), nullptr);
  EXPECT_EQ(pass.MeasureRouters().value, once.value);
  TinyModel<double> dense;
  EXPECT_FALSE(Pass(dense.graph, dense.views, Mode::kTraining, kThreads).has_routers());
}

}  // namespace
}  // namespace retort::engine::test
