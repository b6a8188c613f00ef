// Which values are dropped after forward, and when they are worked out again.
// Method: backward asks for each value that it reads (Live). A dropped one is computed again right
// then, from its inputs, which are asked for in the same way; so a block is rebuilt from its input
// as far as its backward needs, and no further. The same ops run on the same inputs: the same bits.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "core/engine/planner.h"
#include "retort/abi/draft/op.h"

namespace retort::engine {

using graph::Node;
using graph::Op;

bool Planner::MayRecompute(int32_t i) const {
  const Node& node = NodeAt(i);
  if (node.op != Op::kCustom) return true;
  const uint32_t flags = At(graph_.customs, node.custom).handle->table().flags;
  return (flags & RETORT_OP_RECOMPUTE_OK) != 0;
}

void Planner::ChooseDropped() {
  const auto cheap = [&](const Node& node) {
    return node.op == Op::kRmsNorm || node.op == Op::kLayerNorm || node.op == Op::kHeadNorm ||
           node.op == Op::kGated || node.op == Op::kActivation;
  };
  const auto leaves_block = [&](int32_t value, int32_t block) {
    const std::vector<int32_t>& readers = At(consumers_, value);
    return value == graph_.hidden || std::any_of(readers.begin(), readers.end(), [&](int32_t c) {
             return NodeAt(c).block != block;
           });
  };
  std::vector<bool> drop(graph_.nodes.size());
  for (int32_t i = 0; i < n_; ++i) {
    const Node& node = NodeAt(i);
    if (options_.recompute == 1) drop[static_cast<size_t>(i)] = cheap(node);
    if (options_.recompute >= 2) drop[static_cast<size_t>(i)] = node.block >= 0 && MayRecompute(i);
    for (int32_t k = 0; k < node.n_out; ++k) {
      if (leaves_block(node.out + k, node.block)) drop[static_cast<size_t>(i)] = false;
    }
  }
  // What is kept in a shared buffer keeps it whole: rope in place, and columns of a group.
  const auto keep_together = [&](int32_t a, int32_t b) {
    if (!At(drop, a) || !At(drop, b))
      drop[static_cast<size_t>(a)] = drop[static_cast<size_t>(b)] = false;
  };
  for (int32_t i = n_ - 1; i >= 0; --i) {
    if (InPlace(NodeAt(i))) keep_together(i, Producer(NodeAt(i).in[0]));
  }
  for (const graph::MergeGroup& group : plan_.groups) {
    const bool all =
        std::all_of(group.nodes.begin(), group.nodes.end(), [&](int32_t i) { return At(drop, i); });
    for (int32_t i : group.nodes) drop[static_cast<size_t>(i)] = all;
  }
  for (int32_t i = 0; i < n_; ++i) {
    if (InPlace(NodeAt(i))) keep_together(i, Producer(NodeAt(i).in[0]));
    saved_dropped_[static_cast<size_t>(i)] = options_.recompute >= 2 && At(drop, i);
  }
  for (int32_t i = 0; i < n_; ++i) {
    for (int32_t k = 0; k < NodeAt(i).n_out; ++k) {
      dropped_[static_cast<size_t>(NodeAt(i).out + k)] = At(drop, i);
    }
  }
}

BackwardReads Planner::ReadsOf(int32_t i) const {
  constexpr uint64_t kAll = ~uint64_t{0};
  const Node& node = NodeAt(i);
  if (!training_ || !NeedsBackward(i)) return {};
  switch (node.op) {
    case Op::kLinear: {
      const bool lora = HasActiveLora(node);
      return {.in = lora || TrainedParam(node.params[0]) ? kAll : 0, .saved = lora};
    }
    case Op::kRmsNorm:
    case Op::kLayerNorm:
    case Op::kHeadNorm: return {.in = kAll, .saved = true};
    case Op::kAttention: return {.in = kAll, .out = kAll, .saved = true};
    case Op::kMoe: return {.in = kAll, .saved = true};
    case Op::kActivation:
    case Op::kGated: return {.in = kAll};
    case Op::kMul: return {.in = node.params.empty() || TrainedParam(node.params[0]) ? kAll : 0};
    case Op::kCustom: {
      const graph::OpSpec& spec = At(plan_.customs, node.custom).spec;
      return {.in = spec.backward_in, .out = spec.backward_out, .saved = true};
    }
    default: return {};
  }
}

BufferId Planner::Live(int32_t value) {
  if (!At(dropped_, value)) return At(value_, value);
  if (At(again_, value) < 0) Recompute(Producer(value));
  return At(again_, value);
}

BufferId Planner::LiveSaved(int32_t i) {
  if (!At(saved_dropped_, i)) return At(plan_.nodes, i).saved;
  if (At(saved_again_, i) < 0) Recompute(i);
  return At(saved_again_, i);
}

void Planner::Recompute(int32_t i) {
  if (const int32_t group = At(group_of_, i); group >= 0) i = At(plan_.groups, group).nodes[0];
  const Node& node = NodeAt(i);
  NodePlan plan{.group = At(group_of_, i)};
  plan.in.resize(node.in.size());
  for (size_t k = 0; k < node.in.size(); ++k) {
    if (!IsWeight(node.in[k])) plan.in[k].value = Live(node.in[k]);
  }
  ++now_;
  for (const InputPlan& in : plan.in) Use(in.value, now_);
  if (plan.group >= 0) {
    int64_t width = 0;
    for (int32_t n : At(plan_.groups, plan.group).nodes) width += Width(NodeAt(n).out);
    plan.out = NewBuffer(width, now_);
    int64_t column = 0;
    for (int32_t n : At(plan_.groups, plan.group).nodes) {
      At(again_, NodeAt(n).out) = NewColumns(plan.out, column, Width(NodeAt(n).out));
      column += Width(NodeAt(n).out);
    }
  } else {
    plan.out = InPlace(node) ? plan.in[0].value : NewBuffer(Width(node.out), now_);
    At(again_, node.out) = plan.out;
    PlanWorkspace(i, plan, now_);
    if (At(saved_dropped_, i) && At(plan_.nodes, i).saved >= 0) {
      plan.saved = At(saved_again_, i) = NewSaved(i, now_);
    }
  }
  if (node.op == Op::kCustom) RecomputeCustom(i, plan);
  plan_.steps.push_back({.node = i, .again = static_cast<int32_t>(plan_.recomputed.size())});
  plan_.recomputed.push_back(std::move(plan));
}

void Planner::RecomputeCustom(int32_t i, NodePlan& plan) {
  const Node& node = NodeAt(i);
  CustomPlan custom{.spec = At(plan_.customs, node.custom).spec};
  for (int32_t k = 0; k < node.n_out; ++k) {
    if (k > 0) At(again_, node.out + k) = NewBuffer(Width(node.out + k), now_);
    custom.out.push_back(At(again_, node.out + k));
  }
  for (BufferId saved : At(plan_.customs, node.custom).saved) {
    const Buffer buffer = At(plan_.buffers, saved);
    custom.saved.push_back(buffer.fixed ? NewFixedBuffer(buffer.width, now_)
                                        : NewBuffer(buffer.width, now_));
  }
  plan.custom = At(custom_again_, i) = static_cast<int32_t>(plan_.customs.size());
  plan_.customs.push_back(std::move(custom));
}

}  // namespace retort::engine
