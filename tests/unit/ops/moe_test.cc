// Layers of experts: forward and gradients against central differences and an ATen rendering that
// runs every expert on every row; the rules of routing; the load-balancing loss.
// SPDX-License-Identifier: Apache-2.0
#include "core/ops/moe.h"

#include <ATen/ops/scatter.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "tests/unit/ops/op_check.h"

namespace retort::ops::test {
namespace {

constexpr int kThreads = 2;

graph::MoeSpec Spec(int64_t n_experts, int64_t top_k, int64_t hidden) {
  return {.n_experts = n_experts,
          .top_k = top_k,
          .hidden = hidden,
          .activation = RETORT_ACTIVATION_SILU};
}

// All that one call needs, in f64.
struct Layer {
  Layer(const graph::MoeSpec& s, int64_t n_rows, int64_t n_width)
      : spec(s),
        rows(n_rows),
        width(n_width),
        x({rows, width}, 1),
        logits({rows, s.n_experts}, 2),
        gate_up({s.n_experts, 2 * s.hidden, width}, 3),
        down({s.n_experts, width, s.hidden}, 4),
        bias({s.n_experts}, 5),
        dy({rows, width}, 6),
        weights(Array::Zeros({rows, s.top_k})),
        kept(Array::Zeros({rows * s.top_k, 2 * s.hidden})),
        ids(static_cast<size_t>(rows * s.top_k)) {}

  MoeRouting routing() { return {.ids = ids, .weights_TK = weights.view()}; }
  void Route() {
    const TensorView b = bias.view();
    MoeRoute(spec, logits.view(), has_bias ? &b : nullptr, routing(), kThreads);
    order.Sort(ids, spec.n_experts);
  }
  void Forward(bool keep = true) {
    Route();
    scratch.resize(static_cast<size_t>(rows * MoeForwardScratch(spec, width, keep)));
    MoeForward(spec, x.view(), routing(), order, {gate_up.view(), down.view()},
               keep ? kept.view() : TensorView{}, y.view(), scratch.data(), kThreads);
  }
  void Backward(bool accumulate = false) {
    scratch.resize(static_cast<size_t>(rows * MoeBackwardScratch(spec, width)));
    MoeBackward(spec, dy.view(), x.view(), routing(), order, {gate_up.view(), down.view()},
                kept.view(),
                {.dx_TD = dx.view(),
                 .d_weights_TK = d_weights.view(),
                 .accumulate_dx = accumulate,
                 .d_gate_up = d_gate_up.view(),
                 .d_down = d_down.view(),
                 .accumulate_gate_up = accumulate,
                 .accumulate_down = accumulate},
                scratch.data(), kThreads);
    MoeRouteBackward(spec, logits.view(), routing(), d_weights.view(), d_logits.view(), accumulate,
                     kThreads);
  }

  graph::MoeSpec spec;
  int64_t rows, width;
  bool has_bias = false;
  Array x, logits, gate_up, down, bias, dy, weights, kept;
  Array y = Array::Zeros(x.shape()), dx = y, d_logits = Array::Zeros(logits.shape());
  Array d_gate_up = Array::Zeros(gate_up.shape()), d_down = Array::Zeros(down.shape());
  Array d_weights = weights;
  std::vector<int32_t> ids;
  std::vector<double> scratch;
  MoeOrder order;
};

// Which experts are open, by groups; as DeepSeek-V3 (with a bias) and V2 (without) have it.
at::Tensor Open(const graph::MoeSpec& spec, const at::Tensor& choice, bool has_bias) {
  const int64_t rows = choice.size(0), size = spec.n_experts / spec.n_groups;
  const at::Tensor grouped = choice.view({rows, spec.n_groups, size});
  const int64_t counted = has_bias ? std::min<int64_t>(2, size) : 1;
  const at::Tensor scores = std::get<0>(grouped.topk(counted, -1)).sum(-1);
  const at::Tensor best = std::get<1>(scores.topk(spec.top_k_groups, -1));
  return at::zeros_like(scores)
      .scatter(1, best, 1.0)
      .unsqueeze(-1)
      .expand_as(grouped)
      .reshape({rows, spec.n_experts});
}

at::Tensor Reference(Layer& layer, const std::vector<at::Tensor>& in) {
  const graph::MoeSpec& spec = layer.spec;
  const at::Tensor &x = in[0], &gate_up = in[2], &down = in[3];
  const at::Tensor scores = spec.sigmoid ? in[1].sigmoid() : in[1].softmax(-1);
  at::Tensor choice = scores.detach();
  if (layer.has_bias) choice = choice + layer.bias.Clone();
  const at::Tensor open = Open(spec, choice, layer.has_bias);
  const at::Tensor ids = std::get<1>(choice.masked_fill(open.eq(0), -INFINITY).topk(spec.top_k));
  at::Tensor weights = scores.gather(1, ids);
  if (spec.norm_top_k) weights = weights / weights.sum(-1, true);
  const at::Tensor dense = at::zeros_like(scores).scatter(1, ids, weights);
  at::Tensor y = at::zeros_like(x);
  for (int64_t e = 0; e < spec.n_experts; ++e) {
    const at::Tensor both = x.matmul(gate_up[e].t());
    const at::Tensor h =
        at::silu(both.narrow(1, 0, spec.hidden)) * both.narrow(1, spec.hidden, spec.hidden);
    y = y + h.matmul(down[e].t()) * dense.select(1, e).unsqueeze(1);
  }
  return y * spec.scale;
}

void CheckLayer(Layer& layer) {
  CheckOp({.inputs = {&layer.x, &layer.logits, &layer.gate_up, &layer.down},
           .grads = {&layer.dx, &layer.d_logits, &layer.d_gate_up, &layer.d_down},
           .y = layer.y,
           .dy = layer.dy,
           .forward = [&] { layer.Forward(); },
           .backward = [&] { layer.Backward(); },
           .reference = [&](const std::vector<at::Tensor>& in) { return Reference(layer, in); }});
}

TEST(Moe, SoftmaxWeightsAsTheyAre) {
  Layer layer(Spec(5, 2, 3), 7, 4);
  CheckLayer(layer);
}
TEST(Moe, SoftmaxWeightsNormedAndScaled) {
  graph::MoeSpec spec = Spec(6, 3, 5);
  spec.norm_top_k = true;
  spec.scale = 2.5;
  Layer layer(spec, 9, 3);
  CheckLayer(layer);
}
TEST(Moe, SigmoidScoresWithGroupsAndBias) {
  graph::MoeSpec spec = Spec(8, 3, 3);
  spec.n_groups = 4;
  spec.top_k_groups = 2;
  spec.norm_top_k = spec.sigmoid = true;
  Layer layer(spec, 11, 4);
  layer.has_bias = true;
  CheckLayer(layer);
}
TEST(Moe, GroupsByTheirBestExpert) {
  graph::MoeSpec spec = Spec(9, 2, 3);
  spec.n_groups = 3;
  spec.top_k_groups = 1;
  Layer layer(spec, 6, 4);
  CheckLayer(layer);
}
TEST(Moe, OneRowAndAllExperts) {
  Layer layer(Spec(3, 3, 1), 1, 2);
  CheckLayer(layer);
}

// One expert takes all rows: the others' gradients must become zero, not stay what they were.
TEST(Moe, IdleExpertsGetZeroGradientAndAccumulationAdds) {
  Layer layer(Spec(4, 1, 3), 6, 5);
  for (int64_t t = 0; t < layer.rows; ++t) {
    layer.logits.values()[static_cast<size_t>(t * 4 + 2)] += 100;
  }
  for (Array* stale : {&layer.dx, &layer.d_gate_up, &layer.d_down, &layer.d_logits}) {
    for (double& v : stale->values()) v = 77;
  }
  layer.Forward();
  layer.Backward();
  for (size_t i = 0; i < layer.d_down.values().size(); ++i) {
    if (i / (5 * 3) != 2) {
      ASSERT_EQ(layer.d_down.values()[i], 0) << i;
    }
  }
  for (size_t i = 0; i < layer.d_gate_up.values().size(); ++i) {
    if (i / (6 * 5) != 2) {
      ASSERT_EQ(layer.d_gate_up.values()[i], 0) << i;
    }
  }
  const std::vector<Array> once = {layer.dx, layer.d_gate_up, layer.d_down, layer.d_logits};
  layer.Forward();
  layer.Backward(/*accumulate=*/true);
  const std::vector<Array*> twice = {&layer.dx, &layer.d_gate_up, &layer.d_down, &layer.d_logits};
  for (size_t k = 0; k < once.size(); ++k) {
    std::vector<double> want = Array(once[k]).values();
    for (double& v : want) v *= 2;
    ExpectClose(twice[k]->values(), want, 1e-13, "array " + std::to_string(k));
  }
}

TEST(Moe, WithoutKeptGateAndUpTheResultIsTheSame) {
  Layer layer(Spec(5, 2, 3), 7, 4);
  layer.Forward();
  const std::vector<double> want = layer.y.values();
  layer.Forward(/*keep=*/false);
  EXPECT_EQ(layer.y.values(), want);
}

TEST(MoeRoute, TiesGoToTheLowestIndexAndTheBestComesFirst) {
  Layer layer(Spec(4, 3, 1), 2, 1);
  layer.logits.values() = {1, 3, 1, 1, 0, 0, 0, 0};
  layer.Route();
  EXPECT_EQ(layer.ids, (std::vector<int32_t>{1, 0, 2, 0, 1, 2}));
  EXPECT_EQ(layer.order.begin, (std::vector<int32_t>{0, 2, 4, 6, 6}));
  EXPECT_EQ(layer.order.assignments, (std::vector<int32_t>{1, 3, 0, 4, 2, 5}));
}

// The bias decides who is chosen, not how much it counts.
TEST(MoeRoute, BiasOnlyChooses) {
  Layer layer(Spec(3, 1, 1), 1, 1);
  layer.has_bias = true;
  layer.logits.values() = {2, 0, 0};
  layer.bias.values() = {0, 5, 0};
  layer.Route();
  EXPECT_EQ(layer.ids[0], 1);
  EXPECT_NEAR(layer.weights.values()[0], 1 / (2 + std::exp(2.0)), 1e-15);
}

// f32: rows of decoding don't depend on their neighbours, and threads change nothing.
class F32Rows {
 public:
  F32Rows() : layer_(Spec(6, 2, 37), 13, 29) {}
  std::vector<float> Run(int64_t begin, int64_t end, int threads) {
    const int64_t n = end - begin;
    const auto part = [&](Array& a) {
      const auto cols = static_cast<size_t>(a.shape()[1]);
      const auto first = a.values().begin() + static_cast<ptrdiff_t>(begin * a.shape()[1]);
      return std::vector<float>(first,
                                first + static_cast<ptrdiff_t>(n) * static_cast<ptrdiff_t>(cols));
    };
    std::vector<float> x = part(layer_.x), logits = part(layer_.logits), y(x.size());
    std::vector<float> gate_up = All(layer_.gate_up), down = All(layer_.down);
    std::vector<float> weights(static_cast<size_t>(2 * n));
    std::vector<int32_t> ids(weights.size());
    std::vector<float> scratch(
        static_cast<size_t>(n * MoeForwardScratch(layer_.spec, layer_.width, false)));
    const auto view = [](std::vector<float>& v, const std::vector<int64_t>& shape) {
      return TensorView::Contiguous(v.data(), DType::kF32, shape);
    };
    const MoeRouting routing{.ids = ids, .weights_TK = view(weights, {n, 2})};
    MoeRoute(layer_.spec, view(logits, {n, 6}), nullptr, routing, threads);
    MoeOrder order;
    order.Sort(ids, 6);
    MoeForward(layer_.spec, view(x, {n, 29}), routing, order,
               {view(gate_up, layer_.gate_up.shape()), view(down, layer_.down.shape())}, {},
               view(y, {n, 29}), scratch.data(), threads);
    return y;
  }
  Layer& layer() { return layer_; }

 private:
  static std::vector<float> All(Array& a) { return {a.values().begin(), a.values().end()}; }
  Layer layer_;
};

TEST(Moe, F32RowsDependNeitherOnNeighboursNorOnThreads) {
  F32Rows rows;
  const std::vector<float> all = rows.Run(0, 13, 1);
  EXPECT_EQ(rows.Run(0, 13, 2), all);
  for (int64_t t = 0; t < 13; ++t) {
    const std::vector<float> alone = rows.Run(t, t + 1, 2);
    EXPECT_EQ(alone, std::vector<float>(all.begin() + t * 29, all.begin() + (t + 1) * 29)) << t;
  }
  rows.layer().Forward();
  ExpectClose({all.begin(), all.end()}, rows.layer().y.values(), 1e-4, "f32");
}

// transformers' load_balancing_loss_func over two layers, written out with ATen.
TEST(MoeBalance, LossAndGradientEqualAutogradOverTheFormula) {
  constexpr int64_t kExperts = 5, kTop = 2;
  const graph::MoeSpec spec = Spec(kExperts, kTop, 1);
  Layer first(spec, 7, 1), second(spec, 4, 1);
  second.logits = Array({4, kExperts}, 12);
  MoeTally all, tally;
  std::vector<at::Tensor> leaves;
  at::Tensor choices = at::zeros({kExperts}, at::kDouble), probabilities = choices;
  for (Layer* layer : {&first, &second}) {
    layer->Route();
    MoeCount(spec, layer->logits.view(), layer->routing(), &tally);
    if (all.rows == 0) {
      all = tally;
    } else {
      all.rows += tally.rows;
      for (size_t e = 0; e < kExperts; ++e) {
        all.choices[e] += tally.choices[e];
        all.probabilities[e] += tally.probabilities[e];
      }
    }
    leaves.push_back(layer->logits.Clone().requires_grad_());
    const at::Tensor p = leaves.back().softmax(-1);
    const at::Tensor ids = std::get<1>(p.detach().topk(kTop));
    choices = choices + at::zeros_like(p).detach().scatter(1, ids, 1.0).sum(0);
    probabilities = probabilities + p.sum(0);
  }
  const at::Tensor loss = (choices / 11 * (probabilities / 11)).sum() * kExperts;
  EXPECT_NEAR(MoeBalanceLoss(all), loss.item().toDouble(), 1e-14);
  (loss * 0.3).backward();
  Layer* layers[] = {&first, &second};
  for (size_t k = 0; k < 2; ++k) {
    Array& d = layers[k]->d_logits;
    for (double& v : d.values()) v = 1;
    MoeBalanceBackward(all, layers[k]->logits.view(), 0.3, d.view(), kThreads);
    for (double& v : d.values()) v -= 1;
    ExpectClose(d.values(), ToVector(leaves[k].grad()), 1e-14, "layer " + std::to_string(k));
  }
}

// Even routing gives top_k, the least there is.
TEST(MoeBalance, EvenRoutingGivesTopK) {
  MoeTally even{.choices = {4, 4, 4, 4}, .probabilities = {2, 2, 2, 2}, .rows = 8};
  EXPECT_NEAR(MoeBalanceLoss(even), 2, 1e-15);
}

}  // namespace
}  // namespace retort::ops::test
