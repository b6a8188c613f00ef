// SPDX-License-Identifier: Apache-2.0
#include "core/engine/custom_ops.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "core/engine/compute_type.h"
#include "core/ops/ops.h"

namespace retort::engine {
namespace {

constexpr uint64_t kAll = ~uint64_t{0};

bool Has(uint64_t bits, size_t k) { return (bits >> k & 1) != 0; }

// Inputs are read-only by contract, so the ABI's tensor has no const.
void SetIndices(graph::OpTensor& tensor, std::span<const int32_t> values) {
  tensor.Set(const_cast<int32_t*>(values.data()), DType::kI32,
             std::array{static_cast<int64_t>(values.size())});
}

}  // namespace

void CustomOps::Tensors::Resize(size_t n) {
  if (n <= tensors.size()) return;
  tensors.resize(n);
  pointers.resize(n);
}

CustomOps::CustomOps(const graph::Graph& graph, const Plan& plan,
                     std::span<const TensorView> params, int n_threads)
    : graph_(graph),
      plan_(plan),
      params_(params),
      dtype_(ComputeType(params)),
      n_threads_(n_threads) {
  for (const graph::Node& node : graph.nodes) {
    if (node.op != graph::Op::kCustom) continue;
    const CustomPlan& custom = plan.customs[static_cast<size_t>(node.custom)];
    in_.Resize(node.in.size());
    d_in_.Resize(node.in.size());
    adds_.resize(in_.tensors.size());
    out_.Resize(custom.out.size());
    d_out_.Resize(custom.out.size());  // as many as outputs
    saved_.Resize(custom.saved.size());
    state_.Resize(custom.spec.state.size());
  }
}

void CustomOps::SetRows(const Frame& frame, Tensors& role, size_t k, BufferId id) {
  const int64_t width = plan_.buffers[static_cast<size_t>(id)].width;
  role.Use(k).Set(frame.memory.At(id), dtype(), frame.rows, std::array{width});
}

void CustomOps::SetInputs(size_t node, const NodePlan& plan, const Frame& frame,
                          uint64_t readable) {
  for (size_t k = 0; k < NodeAt(node).in.size(); ++k) {
    const auto value = static_cast<size_t>(NodeAt(node).in[k]);
    const int32_t param = graph_.values[value].param;
    if (!Has(readable, k)) {
      in_.Drop(k);
    } else if (param < 0) {
      SetRows(frame, in_, k, plan.in[k].value);
    } else {
      const TensorView& weight = params_[static_cast<size_t>(param)];
      in_.Use(k).Set(weight.data, weight.dtype, graph_.params[static_cast<size_t>(param)].shape);
    }
  }
}

void CustomOps::SetOutputs(const CustomPlan& custom, const Frame& frame, uint64_t readable) {
  for (size_t k = 0; k < custom.out.size(); ++k) {
    if (Has(readable, k)) {
      SetRows(frame, out_, k, custom.out[k]);
    } else {
      out_.Drop(k);
    }
  }
}

void CustomOps::SetSaved(const CustomPlan& custom, const Frame& frame) {
  for (size_t k = 0; k < custom.saved.size(); ++k) {
    const graph::OpTensorSpec& spec = custom.spec.saved[k];
    void* data = frame.memory.At(custom.saved[k]);
    if (spec.per_row) {
      saved_.Use(k).Set(data, spec.dtype, frame.rows, spec.shape);
    } else {
      saved_.Use(k).Set(data, spec.dtype, spec.shape);
    }
  }
}

retort_op_args CustomOps::Args(const graph::Node& node, const Frame& frame) {
  SetIndices(cu_seqlens_, frame.batch.cu_seqlens);
  SetIndices(positions_, frame.batch.positions);
  return {.struct_size = sizeof(retort_op_args),
          .flags = 0,
          .n_in = static_cast<uint32_t>(node.in.size()),
          .n_out = static_cast<uint32_t>(node.n_out),
          .n_saved = 0,
          .n_state = 0,
          .in = in_.pointers.data(),
          .out = nullptr,
          .saved = nullptr,
          .state = nullptr,
          .d_out = nullptr,
          .d_in = nullptr,
          .cu_seqlens = &cu_seqlens_.tensor,
          .positions = &positions_.tensor,
          .slot = nullptr};
}

void CustomOps::Call(size_t node, const Frame& frame, Function function, const char* attempt,
                     const retort_op_args& args) {
  PluginCallSettings settings = frame.batch.call;
  settings.n_threads = n_threads_;
  const graph::CustomOp& op = graph_.customs[static_cast<size_t>(NodeAt(node).custom)];
  const retort_status status = function(op.handle->instance(), call_.Begin(settings), &args);
  if (status == RETORT_OK) return;
  throw Error(call_.End(status, graph::NodeName(graph_, node) + ": " + attempt));
}

void CustomOps::SetStates(size_t node, const CustomPlan& custom, AttentionStore& store) {
  const std::vector<graph::OpTensorSpec>& specs = custom.spec.state;
  const OpStates states = store.StatesOf(NodeAt(node));
  if (states.data.size() != specs.size()) {
    throw Error(Internal(graph::NodeName(graph_, node) + ": no memory for its state"));
  }
  for (size_t k = 0; k < specs.size(); ++k) {
    state_.Use(k).Set(states.data[k], specs[k].dtype, states.slots, specs[k].shape);
  }
  SetIndices(slot_, states.slot);
}

void CustomOps::Forward(size_t node, const NodePlan& plan, const Frame& frame,
                        AttentionStore* store) {
  const graph::CustomOp& op = graph_.customs[static_cast<size_t>(NodeAt(node).custom)];
  const CustomPlan& custom = PlanOf(plan);
  SetInputs(node, plan, frame, kAll);
  SetOutputs(custom, frame, kAll);
  retort_op_args args = Args(NodeAt(node), frame);
  args.out = out_.pointers.data();
  if (store == nullptr || op.rowwise()) {
    if (!custom.saved.empty()) {  // in training
      SetSaved(custom, frame);
      args.n_saved = static_cast<uint32_t>(custom.saved.size());
      args.saved = saved_.pointers.data();
    }
    return Call(node, frame, op.handle->table().forward, "forward", args);
  }
  if (!op.can_decode()) {
    throw Error(Unimplemented(
        graph::NodeName(graph_, node) +
        ": the op is not ROWWISE and has neither state nor decode; its model can't generate"));
  }
  if (!custom.spec.state.empty()) {
    SetStates(node, custom, *store);
    args.n_state = static_cast<uint32_t>(custom.spec.state.size());
    args.state = state_.pointers.data();
    args.slot = &slot_.tensor;
  }
  const retort_op_v1& table = op.handle->table();
  const Function decode = table.decode != nullptr ? table.decode : table.forward;
  Call(node, frame, decode, "decode", args);
}

void CustomOps::SetGradients(size_t node, const NodePlan& plan, const Frame& frame,
                             Gradients& grads) {
  const CustomPlan& custom = PlanOf(plan);
  for (size_t k = 0; k < custom.d_out.size(); ++k) {
    SetRows(frame, d_out_, k, custom.d_out[k]);
    if (!custom.d_out_is_zero[k]) continue;
    const retort_tensor& zero = d_out_.tensors[k].tensor;
    std::memset(zero.data, 0,
                static_cast<size_t>(zero.shape[0] * zero.shape[1] * DTypeSize(dtype())));
  }
  for (size_t k = 0; k < NodeAt(node).in.size(); ++k) {
    const InputPlan& in = plan.in[k];
    if (in.delivery != Delivery::kWeight) {
      SetRows(frame, d_in_, k, in.delivery == Delivery::kAddScratch ? in.scratch : in.grad);
      continue;
    }
    const int32_t param = graph_.values[static_cast<size_t>(NodeAt(node).in[k])].param;
    if (!grads.Wanted(param)) {
      d_in_.Drop(k);
      continue;
    }
    adds_[k] = grads.MustAccumulate(param);
    void* data = adds_[k] ? frame.memory.At(in.scratch) : grads.view(param).data;
    d_in_.Use(k).Set(data, dtype(), graph_.params[static_cast<size_t>(param)].shape);
  }
}

// Adds what was written into scratch.
void CustomOps::Deliver(size_t node, const NodePlan& plan, const Frame& frame, Gradients& grads) {
  const auto add = [&](void* sum, void* part, int64_t rows, int64_t width) {
    const TensorView to = TensorView::Contiguous(sum, dtype(), {rows, width});
    ops::AddForward(to, TensorView::Contiguous(part, dtype(), {rows, width}), to, n_threads_);
  };
  for (size_t k = 0; k < NodeAt(node).in.size(); ++k) {
    const InputPlan& in = plan.in[k];
    if (in.delivery == Delivery::kAddScratch) {
      add(frame.memory.At(in.grad), frame.memory.At(in.scratch), frame.rows,
          plan_.buffers[static_cast<size_t>(in.grad)].width);
    } else if (in.delivery == Delivery::kWeight && d_in_.pointers[k] != nullptr && adds_[k]) {
      const int32_t param = graph_.values[static_cast<size_t>(NodeAt(node).in[k])].param;
      const TensorView& grad = grads.view(param);
      add(grad.data, frame.memory.At(in.scratch), 1, grad.numel());
    }
  }
}

void CustomOps::Backward(size_t node, const NodePlan& plan, const Frame& frame, Gradients& grads) {
  const graph::CustomOp& op = graph_.customs[static_cast<size_t>(NodeAt(node).custom)];
  const CustomPlan& custom = PlanOf(plan);
  SetInputs(node, plan, frame, custom.spec.backward_in);
  SetOutputs(custom, frame, custom.spec.backward_out);
  SetSaved(custom, frame);
  SetGradients(node, plan, frame, grads);
  retort_op_args args = Args(NodeAt(node), frame);
  args.out = out_.pointers.data();
  args.n_saved = static_cast<uint32_t>(custom.saved.size());
  args.saved = saved_.pointers.data();
  args.d_out = d_out_.pointers.data();
  args.d_in = d_in_.pointers.data();
  Call(node, frame, op.handle->table().backward, "backward", args);
  Deliver(node, plan, frame, grads);
}

}  // namespace retort::engine
