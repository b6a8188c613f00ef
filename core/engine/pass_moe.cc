// The layers of experts of a pass.
// SPDX-License-Identifier: Apache-2.0
#include "core/engine/pass_moe.h"

#include <algorithm>

#include "core/engine/pass.h"

namespace retort::engine {

using graph::Node;
using graph::Op;

namespace {

// Elements of a part of a buffer from `begin` on, in whole rows of the pass.
unsigned char* PartOf(const TensorView& buffer, int64_t begin) {
  const int64_t offset = begin * buffer.shape[0] * DTypeSize(buffer.dtype);
  return static_cast<unsigned char*>(buffer.data) + offset;
}

ops::MoeRouting RoutingAt(const TensorView& buffer, int64_t begin, int64_t top_k) {
  const int64_t rows = buffer.shape[0];
  return {.ids = {reinterpret_cast<int32_t*>(PartOf(buffer, begin + top_k)),
                  static_cast<size_t>(rows * top_k)},
          .weights_TK = TensorView::Contiguous(PartOf(buffer, begin), buffer.dtype, {rows, top_k})};
}

TensorView GateUpAt(const TensorView& saved, const graph::MoeSpec& moe) {
  return TensorView::Contiguous(saved.data, saved.dtype,
                                {saved.shape[0] * moe.top_k, 2 * moe.hidden});
}

}  // namespace

MoeTallies::MoeTallies(const graph::Graph& graph) {
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    if (node.op != Op::kMoe) continue;
    const auto same = [&](const Group& g) { return g.n_experts == node.moe.n_experts; };
    const auto found = std::find_if(groups_.begin(), groups_.end(), same);
    layers_.push_back({.node = i, .group = static_cast<size_t>(found - groups_.begin())});
    if (found != groups_.end()) continue;
    groups_.push_back({.n_experts = node.moe.n_experts, .aux_coef = node.moe.aux_coef});
  }
}

ops::MoeTally* MoeTallies::Of(size_t node) {
  const auto found = std::lower_bound(layers_.begin(), layers_.end(), node,
                                      [](const Layer& l, size_t n) { return l.node < n; });
  return &found->tally;
}

void MoeTallies::AddUp() {
  for (Group& group : groups_) {
    group.sum.rows = 0;
    group.sum.choices.assign(static_cast<size_t>(group.n_experts), 0);
    group.sum.probabilities.assign(static_cast<size_t>(group.n_experts), 0);
  }
  for (const Layer& layer : layers_) {
    ops::MoeTally& sum = groups_[layer.group].sum;
    sum.rows += layer.tally.rows;
    for (size_t e = 0; e < sum.choices.size(); ++e) {
      sum.choices[e] += layer.tally.choices[e];
      sum.probabilities[e] += layer.tally.probabilities[e];
    }
  }
}

RouterLoss MoeTallies::Loss() const {
  RouterLoss loss;
  for (const Group& group : groups_) {
    const double value = ops::MoeBalanceLoss(group.sum);
    loss.value += value;
    loss.weighted += group.aux_coef * value;
  }
  return loss;
}

const ops::MoeTally& MoeTallies::SumOf(const Node& node) const {
  const auto same = [&](const Group& g) { return g.n_experts == node.moe.n_experts; };
  return std::find_if(groups_.begin(), groups_.end(), same)->sum;
}

void Pass::ForwardMoe(size_t i, const NodePlan& plan) {
  const Node& node = NodeAt(i);
  const graph::MoeSpec& moe = node.moe;
  const TensorView x = View(plan.in[0].value), logits = View(plan.in[1].value);
  const TensorView scratch = View(plan.scratch);
  const bool keeps = plan.saved >= 0;
  const int64_t used = ops::MoeForwardScratch(moe, x.cols(), keeps);
  const ops::MoeRouting routing =
      keeps ? RoutingAt(View(plan.saved), 2 * moe.hidden * moe.top_k, moe.top_k)
            : RoutingAt(scratch, used, moe.top_k);
  const TensorView gate_up = keeps ? GateUpAt(View(plan.saved), moe) : TensorView{};
  ops::MoeRoute(moe, logits, node.params[2] < 0 ? nullptr : &ParamAt(node, 2), routing, n_threads_);
  if (mode_ == Mode::kTraining) ops::MoeCount(moe, logits, routing, moe_tallies_.Of(i));
  moe_order_.Sort(routing.ids, moe.n_experts);
  ops::MoeForward(moe, x, routing, moe_order_, {ParamAt(node, 0), ParamAt(node, 1)}, gate_up,
                  View(plan.out), scratch.data, n_threads_);
}

void Pass::BackwardMoe(size_t i, const NodePlan& plan, Gradients& grads) {
  const Node& node = NodeAt(i);
  const graph::MoeSpec& moe = node.moe;
  const TensorView x = View(plan.in[0].value), logits = View(plan.in[1].value);
  const TensorView saved = View(plan.saved), scratch = View(plan.d_scratch);
  const ops::MoeRouting routing = RoutingAt(saved, 2 * moe.hidden * moe.top_k, moe.top_k);
  moe_order_.Sort(routing.ids, moe.n_experts);
  const int64_t used = ops::MoeBackwardScratch(moe, x.cols());
  ops::MoeGradients out{.dx_TD = View(plan.in[0].grad),
                        .d_weights_TK = TensorView::Contiguous(PartOf(scratch, used), scratch.dtype,
                                                               {rows_, moe.top_k}),
                        .accumulate_dx = plan.in[0].delivery == Delivery::kAccumulate,
                        .d_gate_up = {.dtype = dtype()},
                        .d_down = {.dtype = dtype()}};
  const auto want = [&](int32_t param, TensorView* view, bool* accumulate) {
    if (!grads.Wanted(param)) return;
    *accumulate = grads.MustAccumulate(param);
    *view = grads.view(param);
  };
  want(node.params[0], &out.d_gate_up, &out.accumulate_gate_up);
  want(node.params[1], &out.d_down, &out.accumulate_down);
  ops::MoeBackward(moe, View(plan.d_out), x, routing, moe_order_,
                   {ParamAt(node, 0), ParamAt(node, 1)}, GateUpAt(saved, moe), out, scratch.data,
                   n_threads_);
  const TensorView d_logits = View(plan.in[1].grad);
  ops::MoeRouteBackward(moe, logits, routing, out.d_weights_TK, d_logits,
                        plan.in[1].delivery == Delivery::kAccumulate, n_threads_);
  if (moe.aux_coef == 0 || router_weight_ == 0) return;
  ops::MoeBalanceBackward(moe_tallies_.SumOf(node), logits, moe.aux_coef * router_weight_, d_logits,
                          n_threads_);
}

RouterLoss Pass::MeasureRouters() {
  moe_tallies_.AddUp();
  return moe_tallies_.Loss();
}

}  // namespace retort::engine
