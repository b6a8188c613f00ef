// Backward: what each node reads, and where its gradients go.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <utility>

#include "core/engine/pass_moe.h"
#include "core/engine/planner.h"
#include "core/graph/lora.h"

namespace retort::engine {

using graph::Node;
using graph::Op;

namespace {

// Whether the op itself can add to a gradient that is there already.
bool CanAccumulate(const Node& node) {
  switch (node.op) {
    case Op::kMul: return !node.params.empty();
    case Op::kLinear:
    case Op::kRmsNorm:
    case Op::kLayerNorm:
    case Op::kHeadNorm:
    case Op::kSlice:
    case Op::kMoe:
    case Op::kConcat: return true;
    default: return false;
  }
}

// Whether the op can leave an input's gradient out.
bool CanLeaveOut(const Node& node) {
  switch (node.op) {
    case Op::kMul: return !node.params.empty();
    case Op::kLinear:
    case Op::kSlice:
    case Op::kConcat: return true;
    default: return false;
  }
}

}  // namespace

bool Planner::NeedsBackward(int32_t i) const {
  const Node& node = NodeAt(i);
  for (int32_t k = 0; k < node.n_out; ++k) {
    if (At(needs_, node.out + k)) return true;
  }
  return false;
}

// Finds (or plans to compute) what backward reads, then steps on to the time of backward itself.
void Planner::PlanReads(int32_t i) {
  const Node& node = NodeAt(i);
  const BackwardReads reads = ReadsOf(i);
  NodePlan plan;
  plan.group = At(group_of_, i);
  plan.in.resize(node.in.size());
  for (size_t k = 0; k < node.in.size(); ++k) {
    if (reads.Input(k) && !IsWeight(node.in[k])) plan.in[k].value = Live(node.in[k]);
  }
  std::vector<BufferId> out(static_cast<size_t>(node.n_out), -1);
  for (size_t k = 0; k < out.size(); ++k) {
    if (reads.Output(k)) out[k] = Live(node.out + static_cast<int32_t>(k));
  }
  if (reads.saved && node.op != Op::kCustom) plan.saved = LiveSaved(i);
  if (node.op == Op::kCustom) {
    const CustomPlan& forward = At(plan_.customs, node.custom);
    if (At(saved_dropped_, i) && !forward.saved.empty() && At(custom_again_, i) < 0) Recompute(i);
    CustomPlan custom{.spec = At(plan_.customs, node.custom).spec, .out = out};
    const int32_t again = At(saved_dropped_, i) ? At(custom_again_, i) : -1;
    custom.saved = At(plan_.customs, again >= 0 ? again : node.custom).saved;
    plan.custom = static_cast<int32_t>(plan_.customs.size());
    plan_.customs.push_back(std::move(custom));
  }
  ++now_;
  for (const InputPlan& in : plan.in) Use(in.value, now_);
  for (BufferId id : out) Use(id, now_);
  plan.out = out[0];
  Use(plan.saved, now_);
  if (plan.custom >= 0) {
    for (BufferId id : At(plan_.customs, plan.custom).saved) Use(id, now_);
  }
  BackwardAt(i) = std::move(plan);
}

void Planner::PlanOutputGradients(int32_t i) {
  const Node& node = NodeAt(i);
  NodePlan& plan = BackwardAt(i);
  if (plan.group >= 0) {
    plan.d_out = At(group_grad_, plan.group);
    return Use(plan.d_out, now_);
  }
  if (node.op != Op::kCustom) {
    plan.d_out = At(grad_, node.out);
    return Use(plan.d_out, now_);
  }
  CustomPlan& custom = At(plan_.customs, plan.custom);
  for (int32_t k = 0; k < node.n_out; ++k) {
    BufferId grad = At(grad_, node.out + k);
    custom.d_out_is_zero.push_back(grad < 0);
    if (grad < 0) grad = NewBuffer(Width(node.out + k), now_);
    Use(grad, now_);
    custom.d_out.push_back(grad);
  }
}

// The backward at hand writes into the gradients of the node's params, and of its group's.
void Planner::NoteGradients(int32_t i) {
  const auto note = [&](int32_t param) {
    if (param >= 0)
      At(plan_.gradient_times, param) = std::min(At(plan_.gradient_times, param), now_);
  };
  const auto note_node = [&](const Node& node) {
    for (int32_t p : node.params) note(p);
    for (int32_t v : node.in) note(graph_.values[static_cast<size_t>(v)].param);
    for (const graph::LoraPart& part : node.lora) note(part.a), note(part.b);
  };
  note_node(NodeAt(i));
  if (BackwardAt(i).group < 0) return;
  for (int32_t n : At(plan_.groups, BackwardAt(i).group).nodes) note_node(NodeAt(n));
}

void Planner::PlanBackward(int32_t i) {
  const Node& node = NodeAt(i);
  const int32_t group = At(group_of_, i);
  if (!NeedsBackward(i) || (group >= 0 && At(plan_.groups, group).nodes[0] != i)) {
    BackwardAt(i).skip = true;
    return;
  }
  PlanReads(i);
  NoteGradients(i);
  plan_.steps.push_back({.node = i});
  PlanOutputGradients(i);
  if (node.op == Op::kLinear) PlanLoraBackward(i);
  if (node.op == Op::kMoe) {
    BackwardAt(i).d_scratch = NewBuffer(MoeGradientScratchWidth(graph_, node), now_);
  }
  if (node.op == Op::kAdd) return PlanAddBackward(i);
  for (size_t k = 0; k < node.in.size(); ++k) PlanInput(i, k);
}

void Planner::PlanInput(int32_t i, size_t k) {
  const Node& node = NodeAt(i);
  const int32_t value = node.in[k];
  InputPlan& in = BackwardAt(i).in[k];
  if (IsWeight(value)) {
    const int32_t param = graph_.values[static_cast<size_t>(value)].param;
    in.delivery = Delivery::kWeight;
    if (TrainedParam(param)) in.scratch = NewFixedBuffer(At(graph_.params, param).numel(), now_);
    return;
  }
  if (!At(needs_, value)) {
    if (!CanLeaveOut(node)) in.grad = NewBuffer(Width(value), now_);
    return;
  }
  BufferId& grad = At(grad_, value);
  if (grad < 0) {
    const bool in_place = node.op == Op::kRope && At(exclusive_, node.out);
    grad = in_place ? BackwardAt(i).d_out : NewGradient(value);
    in.delivery = Delivery::kWrite;
  } else if (CanAccumulate(node)) {
    in.delivery = Delivery::kAccumulate;
  } else {
    in.delivery = Delivery::kAddScratch;
    in.scratch = NewBuffer(Width(value), now_);
  }
  in.grad = grad;
  Use(grad, now_);
}

// The linear node of a group that a value comes from, directly or turned by rope on the way; -1:
// none. Such a value has one reader (graph::MergeGroups), so rope's backward works in place.
int32_t Planner::GroupedNodeOf(int32_t value) const {
  const int32_t producer = Producer(value);
  const Node& node = NodeAt(producer);
  if (node.op == Op::kRope && Consumers(node.in[0]) == 1 && Consumers(value) == 1) {
    return GroupedNodeOf(node.in[0]);
  }
  return At(group_of_, producer) >= 0 ? producer : -1;
}

// Of a node in a group: its columns of the group's gradient, so that one product takes them all.
BufferId Planner::NewGradient(int32_t value) {
  const int32_t member = GroupedNodeOf(value);
  if (member < 0) return NewBuffer(Width(value), now_);
  const int32_t group = At(group_of_, member);
  int64_t width = 0, column = 0;
  for (int32_t n : At(plan_.groups, group).nodes) {
    if (n == member) column = width;
    width += Width(NodeAt(n).out);
  }
  BufferId& all = At(group_grad_, group);
  if (all < 0) all = NewBuffer(width, now_);
  Use(all, now_);
  return NewColumns(all, column, Width(value));
}

void Planner::PlanLoraBackward(int32_t i) {
  const Node& node = NodeAt(i);
  if (!HasActiveLora(node)) return;
  BackwardAt(i).lora_dh = NewBuffer(graph::LoraWidth(graph_, node, options_.adapter), now_);
  if (HasDropout(node)) BackwardAt(i).lora_dx = NewBuffer(Width(node.in[0]), now_);
}

// The gradient of a sum is that of both operands. One of them (the keeper) may take the buffer
// over; the other may read it too if CanShare. Whoever doesn't gets a copy or an addition.
void Planner::PlanAddBackward(int32_t i) {
  const Node& node = NodeAt(i);
  std::array<bool, 2> passes{false, false};
  const bool exclusive = At(exclusive_, node.out);
  if (node.in.size() == 1) return DeliverAdd(i, 0, exclusive);  // with a weight
  const bool both = At(needs_, node.in[0]) && At(needs_, node.in[1]);
  if (!both) {
    for (size_t k = 0; k < 2; ++k) DeliverAdd(i, k, exclusive && !HasGradient(node.in[k]));
    return;
  }
  if (exclusive && node.in[0] != node.in[1]) {
    if (CanShare(i, node.in[0], node.in[1])) {
      passes = {true, true};
      exclusive_[static_cast<size_t>(node.in[1])] = false;
    } else if (CanShare(i, node.in[1], node.in[0])) {
      passes = {true, true};
      exclusive_[static_cast<size_t>(node.in[0])] = false;
    } else {
      const size_t keeper = HasGradient(node.in[0]) ? 1 : 0;
      passes[keeper] = !HasGradient(node.in[keeper]);
    }
  }
  for (size_t k = 0; k < 2; ++k) DeliverAdd(i, k, passes[k]);
}

// Both gradients in one buffer: `other` has one reader, its producer's backward, and that runs
// before anything is written into what `kept` owns from then on. `other` isn't exclusive, so
// nobody writes through it.
bool Planner::CanShare(int32_t i, int32_t kept, int32_t other) const {
  return !HasGradient(kept) && !HasGradient(other) && Consumers(other) == 1 &&
         other != graph_.hidden && LastWriterBefore(kept, i) < Producer(other);
}

// The last node before `i` whose backward may write into the gradient of `value`.
int32_t Planner::LastWriterBefore(int32_t value, int32_t i) const {
  int32_t last = Producer(value);
  for (int32_t c : At(consumers_, value)) {
    if (c < i) last = std::max(last, c);
  }
  return last;
}

void Planner::DeliverAdd(int32_t i, size_t k, bool passes) {
  const int32_t value = NodeAt(i).in[k];
  if (!At(needs_, value)) return;
  InputPlan& in = BackwardAt(i).in[k];
  BufferId& grad = At(grad_, value);
  if (grad >= 0) {
    in.delivery = Delivery::kAddGradient;
  } else if (passes) {
    in.delivery = Delivery::kPassThrough;
    grad = BackwardAt(i).d_out;
  } else {
    in.delivery = Delivery::kCopy;
    grad = NewBuffer(Width(value), now_);
  }
  in.grad = grad;
  Use(grad, now_);
}

}  // namespace retort::engine
