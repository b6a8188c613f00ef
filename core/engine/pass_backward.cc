// SPDX-License-Identifier: Apache-2.0
#include <cassert>
#include <cstring>

#include "core/engine/pass.h"

namespace retort::engine {

using graph::Node;
using graph::Op;

TensorView Pass::HiddenGradient() const {
  assert(mode_ == Mode::kTraining && rows_ > 0);
  return View(plan_.d_hidden);
}

void Pass::Backward(Gradients& grads, double router_weight) {
  router_weight_ = router_weight;
  moe_tallies_.AddUp();
  for (const BackwardStep& step : plan_.steps) {
    const auto i = static_cast<size_t>(step.node);
    if (step.again >= 0) {
      ForwardNode(i, plan_.recomputed[static_cast<size_t>(step.again)], nullptr);
    } else {
      BackwardNode(i, plan_.backward[i], grads);
    }
  }
}

void Pass::BackwardNode(size_t i, const NodePlan& plan, Gradients& grads) {
  const Node& node = NodeAt(i);
  switch (node.op) {
    case Op::kEmbed:
      if (!grads.Wanted(node.params[0])) return;
      return ops::EmbedBackward(View(plan.d_out), batch_.ids, node.scale,
                                grads.ForAdding(node.params[0]), n_threads_);
    case Op::kLinear: return BackwardLinear(node, plan, grads);
    case Op::kRmsNorm:
    case Op::kHeadNorm: return BackwardNorm(node, plan, grads);
    case Op::kLayerNorm: return BackwardLayerNorm(node, plan, grads);
    case Op::kSlice:
      if (plan.in[0].grad < 0) return;
      return ops::SliceBackward(View(plan.d_out), node.n_heads, node.begin, View(plan.in[0].grad),
                                plan.in[0].delivery == Delivery::kAccumulate, n_threads_);
    case Op::kConcat: return BackwardConcat(node, plan);
    case Op::kMoe: return BackwardMoe(i, plan, grads);
    case Op::kAdd: return BackwardAdd(node, plan, grads);
    case Op::kMul:
      if (!node.params.empty()) return BackwardMulWeight(node, plan, grads);
      return BackwardWriteOnly(node, plan, i);
    case Op::kCustom: return custom_ops_.Backward(i, plan, Frame(), grads);
    default: return BackwardWriteOnly(node, plan, i);
  }
}

void Pass::BackwardNorm(const Node& node, const NodePlan& plan, Gradients& grads) {
  const TensorView x = View(plan.in[0].value);
  const TensorView none{.dtype = dtype()};
  const TensorView dw = grads.Wanted(node.params[0]) ? grads.ForAdding(node.params[0]) : none;
  const TensorView dy = View(plan.d_out), dx = View(plan.in[0].grad);
  const bool add = plan.in[0].delivery == Delivery::kAccumulate;
  const ops::NormSpec spec = NormOf(node, x.cols());
  if (fuse_norms_) {
    return ops::AddNormBackward(spec, dy, x, ParamAt(node, 0), View(plan.saved), dx, add, dw,
                                workspace_, n_threads_);
  }
  ops::NormBackward(spec, dy, x, ParamAt(node, 0), View(plan.saved), dx, add, dw, n_threads_);
}

void Pass::BackwardLayerNorm(const Node& node, const NodePlan& plan, Gradients& grads) {
  const auto gradient = [&](int32_t param) {
    return param >= 0 && grads.Wanted(param) ? grads.ForAdding(param)
                                             : TensorView{.dtype = dtype()};
  };
  const TensorView dw = gradient(node.params[0]), db = gradient(node.params[1]);
  ops::LayerNormBackward(View(plan.d_out), View(plan.in[0].value), ParamAt(node, 0),
                         View(plan.saved), View(plan.in[0].grad),
                         plan.in[0].delivery == Delivery::kAccumulate, dw, db, n_threads_);
}

void Pass::BackwardConcat(const Node& node, const NodePlan& plan) {
  EachConcatPart(graph_, node, [&](size_t k, const ops::ConcatPart& part) {
    if (plan.in[k].grad < 0) return;
    ops::ConcatBackward(View(plan.d_out), part, View(plan.in[k].grad),
                        plan.in[k].delivery == Delivery::kAccumulate, n_threads_);
  });
}

void Pass::BackwardMulWeight(const Node& node, const NodePlan& plan, Gradients& grads) {
  const TensorView dy = View(plan.d_out);
  if (grads.Wanted(node.params[0])) {
    ops::MulWeightBackwardWeight(dy, View(plan.in[0].value), grads.ForAdding(node.params[0]),
                                 n_threads_);
  }
  if (plan.in[0].grad < 0) return;
  ops::MulWeightBackwardInput(dy, ParamAt(node, 0), View(plan.in[0].grad),
                              plan.in[0].delivery == Delivery::kAccumulate, n_threads_);
}

void Pass::BackwardAdd(const Node& node, const NodePlan& plan, Gradients& grads) {
  const TensorView dy = View(plan.d_out);
  if (!node.params.empty() && grads.Wanted(node.params[0])) {
    ops::LinearBackwardBias(dy, grads.ForAdding(node.params[0]), n_threads_);
  }
  for (const InputPlan& in : plan.in) {
    if (in.delivery == Delivery::kPassThrough || in.delivery == Delivery::kNone) continue;
    const TensorView dx = View(in.grad);
    if (in.delivery == Delivery::kCopy) {
      std::memcpy(dx.data, dy.data, static_cast<size_t>(dy.bytes()));
    } else {
      ops::AddForward(dx, dy, dx, n_threads_);
    }
  }
}

// Ops whose backward overwrites: where a gradient is there already, they write into scratch and
// the sum follows.
void Pass::BackwardWriteOnly(const Node& node, const NodePlan& plan, size_t i) {
  const TensorView dy = View(plan.d_out);
  std::array<TensorView, 3> x, dx;
  for (size_t k = 0; k < node.in.size(); ++k) {
    const InputPlan& in = plan.in[k];
    x[k] = View(in.value);
    dx[k] = View(in.delivery == Delivery::kAddScratch ? in.scratch : in.grad);
  }
  switch (node.op) {
    case Op::kRope:
      ops::Rope(node, angles_[static_cast<size_t>(angles_of_[i])], ops::Rotation::kBackward,
                batch_.positions, dy, dx[0], n_threads_);
      break;
    case Op::kAttention:
      ops::AttentionBackward(node.attention, PackedRowsOf(batch_), dy, x[0], x[1], x[2],
                             View(plan.out), View(plan.saved),
                             {.dq = dx[0], .dk = dx[1], .dv = dx[2]}, workspace_, n_threads_);
      break;
    case Op::kActivation:
      ops::ActivationBackward(node.activation, dy, x[0], dx[0], n_threads_);
      break;
    case Op::kGated:
      ops::GatedBackward(node.activation, dy, x[0], x[1], dx[0], dx[1], n_threads_);
      break;
    case Op::kMul: ops::MulBackward(dy, x[0], x[1], dx[0], dx[1], n_threads_); break;
    default: ops::ScaleForward(dy, node.scale, dx[0], n_threads_); break;
  }
  for (size_t k = 0; k < node.in.size(); ++k) {
    if (plan.in[k].delivery != Delivery::kAddScratch) continue;
    const TensorView sum = View(plan.in[k].grad);
    ops::AddForward(sum, dx[k], sum, n_threads_);
  }
}

}  // namespace retort::engine
