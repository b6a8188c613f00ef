// Calls the op plugins of a graph's custom nodes, in the buffers that the plan gave them. A
// plugin's failure is thrown as Error, with node, op and the plugin's text.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/plugin_call.h"
#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/engine/gradients.h"
#include "core/engine/inference.h"
#include "core/engine/pass_memory.h"
#include "core/engine/plan.h"
#include "core/graph/graph.h"

namespace retort::engine {

class CustomOps {
 public:
  // Everything outlives the object.
  CustomOps(const graph::Graph& graph, const Plan& plan, std::span<const TensorView> params,
            int n_threads);

  // Where the pass stands.
  struct Frame {
    const PassMemory& memory;
    int64_t rows = 0;
    const RowBatch& batch;
  };
  // With a store, ops that are not row by row go on from its states.
  void Forward(size_t node, const NodePlan& plan, const Frame& frame, AttentionStore* store);
  // Inputs and outputs that the op doesn't declare as read are NULL: their memory is reused.
  void Backward(size_t node, const NodePlan& plan, const Frame& frame, Gradients& grads);

 private:
  // Tensors of one role and the pointers to them, made once for the node that has the most.
  struct Tensors {
    std::vector<graph::OpTensor> tensors;
    std::vector<retort_tensor*> pointers;
    void Resize(size_t n);
    void Drop(size_t i) { pointers[i] = nullptr; }
    graph::OpTensor& Use(size_t i) {
      pointers[i] = &tensors[i].tensor;
      return tensors[i];
    }
  };

  const graph::Node& NodeAt(size_t i) const { return graph_.nodes[i]; }
  const CustomPlan& PlanOf(const NodePlan& plan) const {
    return plan_.customs[static_cast<size_t>(plan.custom)];
  }
  DType dtype() const { return dtype_; }
  void SetRows(const Frame& frame, Tensors& role, size_t k, BufferId id);
  void SetInputs(size_t node, const NodePlan& plan, const Frame& frame, uint64_t readable);
  void SetOutputs(const CustomPlan& custom, const Frame& frame, uint64_t readable);
  void SetSaved(const CustomPlan& custom, const Frame& frame);
  void SetStates(size_t node, const CustomPlan& custom, AttentionStore& store);
  void SetGradients(size_t node, const NodePlan& plan, const Frame& frame, Gradients& grads);
  void Deliver(size_t node, const NodePlan& plan, const Frame& frame, Gradients& grads);
  // Arguments with what all calls have.
  retort_op_args Args(const graph::Node& node, const Frame& frame);
  using Function = retort_status (*)(retort_instance*, const retort_call*, const retort_op_args*);
  void Call(size_t node, const Frame& frame, Function function, const char* attempt,
            const retort_op_args& args);

  const graph::Graph& graph_;
  const Plan& plan_;
  std::span<const TensorView> params_;
  const DType dtype_;
  const int n_threads_;
  PluginCall call_{"custom op"};
  Tensors in_, out_, saved_, state_, d_out_, d_in_;
  std::vector<bool> adds_;  // of the weights among the inputs: the gradient is in scratch
  graph::OpTensor cu_seqlens_, positions_, slot_;
};

}  // namespace retort::engine
