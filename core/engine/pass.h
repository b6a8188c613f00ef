// Runs a graph over a batch: forward, and in training mode backward. Knows no head and no loss.
// Method: the plan is made once; a batch only fixes the number of rows, so a pass is a walk over
// the nodes with views into the arena, and nothing is allocated after the first batch of a size.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "core/base/features.h"
#include "core/base/tensor.h"
#include "core/engine/custom_ops.h"
#include "core/engine/gradients.h"
#include "core/engine/inference.h"
#include "core/engine/pass_memory.h"
#include "core/engine/pass_moe.h"
#include "core/engine/plan.h"
#include "core/graph/graph.h"
#include "core/ops/ops.h"

namespace retort::engine {

// The spec of an rms_norm or head_norm node over rows of `width`.
ops::NormSpec NormOf(const graph::Node& node, int64_t width);

// Calls fn(k, where input k of a concat lies in a head of the output), in order.
template <class Fn>
void EachConcatPart(const graph::Graph& graph, const graph::Node& node, Fn&& fn) {
  ops::ConcatPart part{.n_heads = node.n_heads};
  for (size_t k = 0; k < node.in.size(); ++k) {
    const int64_t width = graph.values[static_cast<size_t>(node.in[k])].width;
    part.repeat = node.Repeats(k);
    fn(k, part);
    part.begin += part.repeat ? width : width / node.n_heads;
  }
}

class Pass {
 public:
  // `params` in graph.params order, all f64, or f32 and what linear and embed take beside it; graph
  // and params outlive the object. Throws Error as MakePlan does. `adapter`: that training runs
  // (-1: none); inference begins with it.
  // `recompute`: PlanOptions's.
  Pass(const graph::Graph& graph, std::span<const TensorView> params, Mode mode, int n_threads,
       int32_t adapter = -1, int32_t recompute = 0);

  // Inference: which of graph.adapters later passes run; -1: none. Throws Error if there is none
  // of this index.
  void SetAdapter(int32_t adapter);

  // Checks the batch (INVALID_ARGUMENT, thrown as Error) and runs it. In training mode keeps what
  // Backward reads, and a view of the batch's spans, which must stay alive until then. `lent`, of
  // training alone: the gradients' memory, for a pass that nothing has been added to them before.
  TensorView Forward(const RowBatch& batch, AttentionStore* store,
                     const PassMemory::Lent* lent = nullptr);
  // What was lent to the head, until Backward; empty: nothing.
  std::span<unsigned char> HeadMemory() const { return memory_.head(); }
  // [T, D]: to be filled with the loss's gradient after Forward, before Backward.
  TensorView HiddenGradient() const;
  // Adds to `grads`. Once per Forward: it destroys what was kept. `router_weight`: of the gradient
  // of the load-balancing loss.
  void Backward(Gradients& grads, double router_weight = 1);
  // Of the last Forward in training mode, also without Backward; zero without layers of experts.
  RouterLoss MeasureRouters();
  bool has_routers() const { return !moe_tallies_.empty(); }

  DType dtype() const { return dtype_; }
  const Plan& plan() const { return plan_; }
  int64_t arena_bytes() const { return memory_.bytes(); }
  int64_t arena_growths() const { return memory_.growths(); }

 private:
  const graph::Node& NodeAt(size_t i) const { return graph_.nodes[i]; }
  const TensorView& ParamAt(const graph::Node& node, size_t slot) const {
    return params_[static_cast<size_t>(node.params[slot])];
  }
  // Of a linear node, or of its whole group.
  const TensorView& WeightOf(const graph::Node& node, const NodePlan& plan) const {
    return plan.group < 0 ? ParamAt(node, 0) : groups_[static_cast<size_t>(plan.group)].weight;
  }
  const TensorView* BiasOf(const graph::Node& node, const NodePlan& plan) const {
    if (node.params[1] < 0) return nullptr;
    return plan.group < 0 ? &ParamAt(node, 1) : &groups_[static_cast<size_t>(plan.group)].bias;
  }
  TensorView View(BufferId id) const;
  void KeepLastRows();
  void CheckBatch(const RowBatch& batch) const;
  void CheckPrefixes(const RowBatch& batch, const AttentionStore* store) const;

  void ForwardNode(size_t i, const NodePlan& plan, AttentionStore* store);
  void ForwardLayerNorm(const graph::Node& node, const NodePlan& plan);
  void ForwardConcat(const graph::Node& node, const NodePlan& plan);
  void ForwardAttention(const graph::Node& node, const NodePlan& plan, AttentionStore* store);
  void BackwardNode(size_t i, const NodePlan& plan, Gradients& grads);
  // pass_moe.cc
  void ForwardMoe(size_t i, const NodePlan& plan);
  void BackwardMoe(size_t i, const NodePlan& plan, Gradients& grads);
  // pass_linear.cc
  void ForwardLinear(const graph::Node& node, const NodePlan& plan);
  void BackwardLinear(const graph::Node& node, const NodePlan& plan, Gradients& grads);
  void ForwardLora(const graph::Node& node, const NodePlan& plan);
  // dx: what the input's gradient is added to; NULL: nobody wants it.
  void BackwardGroup(const NodePlan& plan, Gradients& grads);
  void BackwardLora(const graph::Node& node, const NodePlan& plan, const TensorView* dx,
                    Gradients& grads);
  void AddLowRank(const TensorView& h, const TensorView& b, const TensorView& y);
  void DropLoraInput(const graph::LoraPart& part, const TensorView& x, const TensorView& out) const;
  bool Drops(const graph::LoraPart& part) const;
  void BackwardNorm(const graph::Node& node, const NodePlan& plan, Gradients& grads);
  void BackwardLayerNorm(const graph::Node& node, const NodePlan& plan, Gradients& grads);
  void BackwardConcat(const graph::Node& node, const NodePlan& plan);
  void BackwardAdd(const graph::Node& node, const NodePlan& plan, Gradients& grads);
  void BackwardMulWeight(const graph::Node& node, const NodePlan& plan, Gradients& grads);
  void BackwardWriteOnly(const graph::Node& node, const NodePlan& plan, size_t i);
  CustomOps::Frame Frame() const { return {.memory = memory_, .rows = rows_, .batch = batch_}; }

  const graph::Graph& graph_;
  std::span<const TensorView> params_;
  const Mode mode_;
  const int n_threads_;
  int32_t adapter_ = -1;
  bool generates_ = false;            // there is a store: a row may not depend on its company
  const DType dtype_;                 // of activations: f32, or f64 if the weights are
  std::vector<float> low_rank_rows_;  // of few rows: what an adapter adds to a linear
  int64_t vocab_ = 0;                 // ids below it are in every embedding table
  struct Group {
    TensorView weight, bias;  // of all its nodes, one below the other
  };
  std::vector<Group> groups_;  // as plan_.groups
  Plan plan_;
  PassMemory memory_;
  ops::Workspace workspace_;
  const bool fuse_norms_ = !IsDisabled("addnorm");
  CustomOps custom_ops_;
  ops::MoeOrder moe_order_;  // of the node at hand
  MoeTallies moe_tallies_;
  double router_weight_ = 1;
  std::vector<ops::RopeAngles> angles_;  // one per distinct spec
  std::vector<int32_t> angles_of_;       // per node; -1: no rope
  RowBatch batch_;
  const bool may_share_rows_;
  size_t row_by_row_from_ = 0;  // nodes from here on look at one row at a time
  int64_t first_row_ = 0;       // of those that the nodes at hand work on
  int64_t rows_ = 0;
};

}  // namespace retort::engine
