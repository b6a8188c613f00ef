// Forward.
// SPDX-License-Identifier: Apache-2.0
#include "core/engine/plan.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/base/features.h"
#include "core/base/status.h"
#include "core/engine/pass_moe.h"
#include "core/engine/planner.h"
#include "core/graph/lora.h"

namespace retort::engine {

using graph::Graph;
using graph::Node;
using graph::Op;

Planner::Planner(const Graph& graph, const PlanOptions& options)
    : graph_(graph),
      options_(options),
      training_(options.mode == Mode::kTraining),
      share_memory_(!IsDisabled("arena")),
      n_(static_cast<int32_t>(graph.nodes.size())),
      consumers_(graph.values.size()),
      value_(graph.values.size(), -1),
      grad_(graph.values.size(), -1),
      needs_(graph.values.size()),
      exclusive_(graph.values.size(), true),
      group_of_(graph.nodes.size(), -1),
      dropped_(graph.values.size()),
      saved_dropped_(graph.nodes.size()),
      again_(graph.values.size(), -1),
      saved_again_(graph.nodes.size(), -1),
      custom_again_(graph.nodes.size(), -1) {
  plan_.nodes.resize(graph.nodes.size());
  plan_.customs.resize(graph.customs.size());
  plan_.gradient_times.assign(graph.params.size(), std::numeric_limits<int32_t>::max());
  for (int32_t i = 0; i < n_; ++i) {
    for (int32_t v : NodeAt(i).in) At(consumers_, v).push_back(i);
  }
}

Plan Planner::Make() {
  FindNeeds();
  TakeGroups();
  for (int32_t i = 0; i < n_; ++i) PlanForward(i);
  plan_.hidden = At(value_, graph_.hidden);
  Use(plan_.hidden, n_);
  now_ = plan_.head_time = n_;
  if (training_) {
    At(plan_.gradient_times, graph_.head) = n_;
    if (graph_.value_head >= 0) At(plan_.gradient_times, graph_.value_head) = n_;
    ChooseDropped();
    plan_.backward.resize(graph_.nodes.size());
    plan_.d_hidden = NewBuffer(graph_.width(), n_);
    At(grad_, graph_.hidden) = plan_.d_hidden;
    for (int32_t i = n_ - 1; i >= 0; --i) PlanBackward(i);
  }
  plan_.row_elements = AssignOffsets(false);
  plan_.fixed_elements = AssignOffsets(true);
  return std::move(plan_);
}

// A value's gradient is wanted where its node trains a param, or one of its inputs is wanted.
void Planner::FindNeeds() {
  if (!training_) return;
  for (int32_t i = 0; i < n_; ++i) {
    const Node& node = NodeAt(i);
    bool needs = HasActiveLora(node);
    for (int32_t p : node.params) needs = needs || TrainedParam(p);
    for (int32_t v : node.in) {
      needs = needs || (IsWeight(v) ? TrainedParam(graph_.values[static_cast<size_t>(v)].param)
                                    : At(needs_, v));
    }
    for (int32_t k = 0; k < node.n_out; ++k) At(needs_, node.out + k) = needs;
  }
}

// Not those that an adapter may add to: it has a product of its own for each node.
void Planner::TakeGroups() {
  for (const graph::MergeGroup& group : options_.groups) {
    const bool adapted = std::any_of(group.nodes.begin(), group.nodes.end(), [&](int32_t i) {
      return training_ ? HasActiveLora(NodeAt(i)) : !NodeAt(i).lora.empty();
    });
    if (adapted) continue;
    for (int32_t i : group.nodes) At(group_of_, i) = static_cast<int32_t>(plan_.groups.size());
    plan_.groups.push_back(group);
  }
  group_grad_.assign(plan_.groups.size(), -1);
}

bool Planner::HasActiveLora(const Node& node) const {
  return options_.adapter >= 0 &&
         std::any_of(node.lora.begin(), node.lora.end(),
                     [&](const graph::LoraPart& part) { return part.adapter == options_.adapter; });
}

bool Planner::HasDropout(const Node& node) const {
  return std::any_of(node.lora.begin(), node.lora.end(), [&](const graph::LoraPart& part) {
    return part.adapter == options_.adapter && part.dropout > 0;
  });
}

int64_t Planner::SavedWidth(const Node& node) const {
  switch (node.op) {
    case Op::kRmsNorm: return 1;
    case Op::kLayerNorm: return 2;
    case Op::kHeadNorm: return Width(node.out) / node.head_dim;
    case Op::kAttention: return node.attention.n_heads;
    case Op::kLinear: return graph::LoraWidth(graph_, node, options_.adapter);
    case Op::kMoe: return MoeSavedWidth(node);
    default: return 0;
  }
}

// Rope turns its input in place: nobody else may read it, and no backward needs the old numbers
// (producers keep their inputs, not their output; those that may keep it are left out).
bool Planner::InPlace(const Node& node) const {
  if (node.op != Op::kRope) return false;
  const int32_t x = node.in[0];
  const Op producer = NodeAt(Producer(x)).op;
  return Consumers(x) == 1 && x != graph_.hidden && producer != Op::kAttention &&
         producer != Op::kCustom;
}

bool Planner::FusesWithNext(int32_t i) const {
  if (NodeAt(i).op != Op::kAdd || NodeAt(i).in.size() != 2 || i + 1 >= n_) return false;
  const Node& next = NodeAt(i + 1);
  return next.op == Op::kRmsNorm && next.in[0] == NodeAt(i).out && !IsDisabled("addnorm");
}

BufferId Planner::NewSaved(int32_t i, int32_t time) {
  const int64_t width = SavedWidth(NodeAt(i));
  return width > 0 ? NewBuffer(width, time) : -1;
}

void Planner::PlanWorkspace(int32_t i, NodePlan& plan, int32_t time) {
  const Node& node = NodeAt(i);
  if (node.op == Op::kLinear && training_ && HasActiveLora(node) && HasDropout(node)) {
    plan.lora_x = NewBuffer(Width(node.in[0]), time);
  }
  if (node.op == Op::kMoe) plan.scratch = NewBuffer(MoeScratchWidth(graph_, node, training_), time);
}

void Planner::PlanForward(int32_t i) {
  const Node& node = NodeAt(i);
  NodePlan& plan = At(plan_.nodes, i);
  plan.in.resize(node.in.size());
  plan.custom = node.custom;
  plan.group = At(group_of_, i);
  if (plan.group >= 0 && At(plan_.groups, plan.group).nodes[0] != i) {
    plan.skip = true;
    return;
  }
  for (size_t k = 0; k < node.in.size(); ++k) {
    plan.in[k].value = At(value_, node.in[k]);
    Use(plan.in[k].value, i);
  }
  if (plan.group >= 0) return PlanGroupForward(i);
  plan.fuse_next = FusesWithNext(i);
  const bool fused = i > 0 && At(plan_.nodes, i - 1).fuse_next;
  plan.out = InPlace(node) ? plan.in[0].value : NewBuffer(Width(node.out), i);
  At(value_, node.out) = plan.out;
  // Written while the add's operands are still read.
  if (fused) At(plan_.buffers, plan.out).first = i - 1;
  if (node.op == Op::kCustom) return PlanCustomForward(i);
  PlanWorkspace(i, plan, i);
  if (!training_) {
    // An adapter's part of a linear, of whichever adapter runs.
    const int64_t width = node.op == Op::kLinear ? graph::LoraWidth(graph_, node) : 0;
    if (width > 0) plan.saved = NewBuffer(width, i);
    return;
  }
  if (ReadsOf(i).saved || node.op == Op::kMoe) plan.saved = NewSaved(i, fused ? i - 1 : i);
}

// The values of the group are columns of one buffer, all written here.
void Planner::PlanGroupForward(int32_t i) {
  NodePlan& plan = At(plan_.nodes, i);
  const std::vector<int32_t>& nodes = At(plan_.groups, plan.group).nodes;
  int64_t width = 0;
  for (int32_t n : nodes) width += Width(NodeAt(n).out);
  plan.out = NewBuffer(width, i);
  int64_t column = 0;
  for (int32_t n : nodes) {
    At(value_, NodeAt(n).out) = NewColumns(plan.out, column, Width(NodeAt(n).out));
    column += Width(NodeAt(n).out);
  }
}

graph::OpSpec Planner::SpecOf(int32_t i) const {
  const Node& node = NodeAt(i);
  const graph::CustomOp& op = At(graph_.customs, node.custom);
  const std::string name = graph::NodeName(graph_, static_cast<size_t>(i));
  if (training_ && !op.can_train()) {
    throw Error(Unimplemented(name + ": the op has no backward; its model can't be trained"));
  }
  if (options_.dtype == DType::kF32) return op.spec;
  Result<graph::OpSpec> spec = InferOp(*op.handle, graph::OpInputs(graph_, node),
                                       static_cast<uint32_t>(node.n_out), options_.dtype);
  if (!spec.ok()) throw Error(spec.status().WithContext(name));
  return std::move(spec).value();
}

void Planner::PlanCustomForward(int32_t i) {
  const Node& node = NodeAt(i);
  CustomPlan& custom = At(plan_.customs, node.custom);
  custom.spec = SpecOf(i);
  for (int32_t k = 0; k < node.n_out; ++k) {
    BufferId& value = At(value_, node.out + k);
    if (k > 0) value = NewBuffer(Width(node.out + k), i);
    custom.out.push_back(value);
  }
  if (!training_) return;
  for (const graph::OpTensorSpec& saved : custom.spec.saved) {
    const int64_t size = DTypeSize(options_.dtype), elements = (saved.bytes() + size - 1) / size;
    custom.saved.push_back(saved.per_row ? NewBuffer(elements, i) : NewFixedBuffer(elements, i));
  }
}

Plan MakePlan(const Graph& graph, const PlanOptions& options) {
  return Planner(graph, options).Make();
}

}  // namespace retort::engine
