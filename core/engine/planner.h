// The making of a Plan: forward in plan.cc, buffers in plan_buffers.cc, backward in
// plan_backward.cc, recomputation in plan_recompute.cc. Only these include it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "core/engine/plan.h"
#include "core/graph/graph.h"

namespace retort::engine {

// What the backward of a node reads of its forward.
struct BackwardReads {
  uint64_t in = 0;   // bits of inputs
  uint64_t out = 0;  // bits of outputs
  bool saved = false;
  bool Input(size_t k) const { return (in >> k & 1) != 0; }
  bool Output(size_t k) const { return (out >> k & 1) != 0; }
};

class Planner {
 public:
  Planner(const graph::Graph& graph, const PlanOptions& options);
  Plan Make();

 private:
  const graph::Node& NodeAt(int32_t i) const { return graph_.nodes[static_cast<size_t>(i)]; }
  bool IsWeight(int32_t value) const {
    return graph_.values[static_cast<size_t>(value)].param >= 0;
  }
  bool TrainedParam(int32_t param) const {
    return param >= 0 && IsTrained(graph_.params[static_cast<size_t>(param)], options_.adapter);
  }
  int64_t Width(int32_t value) const { return graph_.values[static_cast<size_t>(value)].width; }
  int32_t Producer(int32_t value) const {
    return graph_.values[static_cast<size_t>(value)].producer;
  }
  size_t Consumers(int32_t value) const { return consumers_[static_cast<size_t>(value)].size(); }
  template <class T>
  static decltype(auto) At(std::vector<T>& list, int32_t index) {
    return list[static_cast<size_t>(index)];
  }
  template <class T>
  static decltype(auto) At(const std::vector<T>& list, int32_t index) {
    return list[static_cast<size_t>(index)];
  }

  // ---- buffers (plan_buffers.cc)
  BufferId NewBuffer(int64_t width, int32_t time);
  BufferId NewFixedBuffer(int64_t elements, int32_t time);
  BufferId NewColumns(BufferId parent, int64_t column, int64_t width);
  void Use(BufferId id, int32_t time);
  int64_t AssignOffsets(bool fixed);

  // ---- forward (plan.cc)
  void FindNeeds();
  void TakeGroups();
  void PlanForward(int32_t i);
  void PlanGroupForward(int32_t i);
  // What a forward run of the node has beside inputs and outputs, at `time`.
  void PlanWorkspace(int32_t i, NodePlan& plan, int32_t time);
  BufferId NewSaved(int32_t i, int32_t time);
  void PlanCustomForward(int32_t i);
  graph::OpSpec SpecOf(int32_t i) const;
  bool InPlace(const graph::Node& node) const;
  bool FusesWithNext(int32_t i) const;
  bool HasActiveLora(const graph::Node& node) const;
  bool HasDropout(const graph::Node& node) const;
  int64_t SavedWidth(const graph::Node& node) const;

  // ---- recomputation (plan_recompute.cc)
  void ChooseDropped();
  bool MayRecompute(int32_t i) const;
  BackwardReads ReadsOf(int32_t i) const;
  // Where the backward step at hand finds a value, or what a node saved; plans to compute it again
  // if it was dropped. Every use is followed by Use at the time of the step.
  BufferId Live(int32_t value);
  BufferId LiveSaved(int32_t i);
  void Recompute(int32_t i);
  void RecomputeCustom(int32_t i, NodePlan& plan);

  // ---- backward (plan_backward.cc)
  bool NeedsBackward(int32_t i) const;
  void PlanReads(int32_t i);
  void NoteGradients(int32_t i);
  void PlanOutputGradients(int32_t i);
  void PlanBackward(int32_t i);
  void PlanInput(int32_t i, size_t k);
  void PlanLoraBackward(int32_t i);
  void PlanAddBackward(int32_t i);
  void DeliverAdd(int32_t i, size_t k, bool passes);
  bool HasGradient(int32_t value) const { return At(grad_, value) >= 0; }
  bool CanShare(int32_t i, int32_t kept, int32_t other) const;
  int32_t LastWriterBefore(int32_t value, int32_t i) const;
  BufferId NewGradient(int32_t value);
  int32_t GroupedNodeOf(int32_t value) const;
  NodePlan& BackwardAt(int32_t i) { return At(plan_.backward, i); }

  const graph::Graph& graph_;
  const PlanOptions options_;
  const bool training_;
  const bool share_memory_;
  const int32_t n_;
  int32_t now_ = 0;  // of backward
  std::vector<std::vector<int32_t>> consumers_;
  std::vector<BufferId> value_, grad_;
  std::vector<bool> needs_;            // values: their gradient leads to a trained param
  std::vector<bool> exclusive_;        // the gradient's buffer belongs to this value alone
  std::vector<int32_t> group_of_;      // nodes: index into plan_.groups, or -1
  std::vector<BufferId> group_grad_;   // of plan_.groups
  std::vector<bool> dropped_;          // values
  std::vector<bool> saved_dropped_;    // nodes
  std::vector<BufferId> again_;        // values: recomputed
  std::vector<BufferId> saved_again_;  // nodes
  std::vector<int32_t> custom_again_;  // nodes: index into plan_.customs
  Plan plan_;
};

}  // namespace retort::engine
