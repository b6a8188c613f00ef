// SPDX-License-Identifier: Apache-2.0
#include "core/engine/plan.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "core/engine/pass_moe.h"
#include "core/graph/lora.h"

namespace retort::engine {
namespace {

using graph::Graph;
using graph::Node;
using graph::Op;

constexpr int64_t kFixedAlignment = 16;  // elements: 64 bytes and more

// Whether backward of the node reads the values of its inputs; attention reads its output too.
bool NeedsInputs(Op op) {
  switch (op) {
    case Op::kLinear:
    case Op::kRmsNorm:
    case Op::kLayerNorm:
    case Op::kHeadNorm:
    case Op::kAttention:
    case Op::kActivation:
    case Op::kGated:
    case Op::kMoe:
    case Op::kMul: return true;
    default: return false;
  }
}

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

int64_t SavedWidth(const Graph& graph, const Node& node) {
  if (node.op == Op::kRmsNorm) return 1;
  if (node.op == Op::kLayerNorm) return 2;
  if (node.op == Op::kMoe) return MoeSavedWidth(node);
  if (node.op == Op::kHeadNorm) {
    return graph.values[static_cast<size_t>(node.out)].width / node.head_dim;
  }
  return node.op == Op::kAttention ? node.attention.n_heads : 0;
}

class Planner {
 public:
  Planner(const Graph& graph, Mode mode, DType dtype, int32_t adapter)
      : graph_(graph),
        training_(mode == Mode::kTraining),
        dtype_(dtype),
        adapter_(adapter),
        n_(static_cast<int32_t>(graph.nodes.size())),
        consumers_(graph.values.size()),
        value_(graph.values.size(), -1),
        grad_(graph.values.size(), -1),
        exclusive_(graph.values.size(), true) {
    plan_.nodes.resize(graph.nodes.size());
    plan_.customs.resize(graph.customs.size());
    for (int32_t i = 0; i < n_; ++i) {
      for (int32_t v : NodeAt(i).in) consumers_[static_cast<size_t>(v)].push_back(i);
    }
  }

  Plan Make() {
    for (int32_t i = 0; i < n_; ++i) PlanForward(i);
    plan_.hidden = value_[static_cast<size_t>(graph_.hidden)];
    Use(plan_.hidden, n_);
    if (training_) {
      plan_.d_hidden = NewBuffer(graph_.width(), n_);
      grad_[static_cast<size_t>(graph_.hidden)] = plan_.d_hidden;
      for (int32_t i = n_ - 1; i >= 0; --i) PlanBackward(i);
    }
    plan_.row_elements = AssignOffsets(false);
    plan_.fixed_elements = AssignOffsets(true);
    return std::move(plan_);
  }

 private:
  const Node& NodeAt(int32_t i) const { return graph_.nodes[static_cast<size_t>(i)]; }
  NodePlan& PlanAt(int32_t i) { return plan_.nodes[static_cast<size_t>(i)]; }
  CustomPlan& CustomAt(int32_t i) { return plan_.customs[static_cast<size_t>(NodeAt(i).custom)]; }
  bool IsWeight(int32_t value) const {
    return graph_.values[static_cast<size_t>(value)].param >= 0;
  }
  int64_t Width(int32_t value) const { return graph_.values[static_cast<size_t>(value)].width; }
  int32_t Producer(int32_t value) const {
    return graph_.values[static_cast<size_t>(value)].producer;
  }
  int32_t BackwardTime(int32_t node) const { return 2 * n_ - node; }

  BufferId NewBuffer(int64_t width, int32_t time) {
    plan_.buffers.push_back({.width = width, .first = time, .last = time});
    return static_cast<BufferId>(plan_.buffers.size() - 1);
  }
  BufferId NewFixedBuffer(int64_t elements, int32_t time) {
    const int64_t blocks = (elements + kFixedAlignment - 1) / kFixedAlignment;
    const BufferId id = NewBuffer(blocks * kFixedAlignment, time);
    plan_.buffers[static_cast<size_t>(id)].fixed = true;
    return id;
  }
  void Use(BufferId id, int32_t time) {
    if (id < 0) return;  // a weight
    Buffer& buffer = plan_.buffers[static_cast<size_t>(id)];
    buffer.last = std::max(buffer.last, time);
  }

  // Rope turns its input in place: nobody else may read it, and no backward needs the old numbers
  // (producers keep their inputs, not their output; those that may keep it are left out).
  bool InPlace(const Node& node) const {
    if (node.op != Op::kRope) return false;
    const int32_t x = node.in[0];
    const Op producer = NodeAt(Producer(x)).op;
    return consumers_[static_cast<size_t>(x)].size() == 1 && x != graph_.hidden &&
           producer != Op::kAttention && producer != Op::kCustom;
  }

  bool FusesWithNext(int32_t i) const {
    if (NodeAt(i).op != Op::kAdd || NodeAt(i).in.size() != 2 || i + 1 >= n_) return false;
    const Node& next = NodeAt(i + 1);
    return next.op == Op::kRmsNorm && next.in[0] == NodeAt(i).out;
  }

  void PlanForward(int32_t i) {
    const Node& node = NodeAt(i);
    NodePlan& plan = PlanAt(i);
    plan.in.resize(node.in.size());
    for (size_t k = 0; k < node.in.size(); ++k) {
      plan.in[k].value = value_[static_cast<size_t>(node.in[k])];
      Use(plan.in[k].value, i);
    }
    plan.fuse_next = FusesWithNext(i);
    plan.out = InPlace(node) ? plan.in[0].value : NewBuffer(Width(node.out), i);
    value_[static_cast<size_t>(node.out)] = plan.out;
    // Written while the add's operands are still read.
    if (i > 0 && PlanAt(i - 1).fuse_next) {
      plan_.buffers[static_cast<size_t>(plan.out)].first = i - 1;
    }
    if (node.op == Op::kCustom) return PlanCustomForward(i);
    if (node.op == Op::kLinear) PlanLoraForward(i);
    if (node.op == Op::kMoe) plan.scratch = NewBuffer(MoeScratchWidth(graph_, node, training_), i);
    if (!training_) return;
    if (const int64_t width = SavedWidth(graph_, node); width > 0) {
      const int32_t written = i > 0 && PlanAt(i - 1).fuse_next ? i - 1 : i;
      plan.saved = NewBuffer(width, written);
      Use(plan.saved, BackwardTime(i));
    }
    if (NeedsInputs(node.op)) {
      for (size_t k = 0; k < node.in.size(); ++k) Use(plan.in[k].value, BackwardTime(i));
    }
    if (node.op == Op::kAttention) Use(plan.out, BackwardTime(i));
  }

  void PlanLoraForward(int32_t i) {
    const Node& node = NodeAt(i);
    NodePlan& plan = PlanAt(i);
    const int64_t width = training_ ? graph::LoraWidth(graph_, node, adapter_)
                                    : graph::LoraWidth(graph_, node);
    if (width == 0) return;
    plan.saved = NewBuffer(width, i);
    if (!training_) return;
    Use(plan.saved, BackwardTime(i));
    if (HasDropout(node)) plan.lora_x = NewBuffer(Width(node.in[0]), i);
  }

  void PlanLoraBackward(int32_t i) {
    const Node& node = NodeAt(i);
    const int64_t width = graph::LoraWidth(graph_, node, adapter_);
    if (width == 0) return;
    PlanAt(i).lora_dh = NewBuffer(width, BackwardTime(i));
    if (HasDropout(node)) PlanAt(i).lora_dx = NewBuffer(Width(node.in[0]), BackwardTime(i));
  }

  bool HasDropout(const Node& node) const {
    return std::any_of(node.lora.begin(), node.lora.end(), [&](const graph::LoraPart& part) {
      return part.adapter == adapter_ && part.dropout > 0;
    });
  }

  graph::OpSpec SpecOf(int32_t i) const {
    const Node& node = NodeAt(i);
    const graph::CustomOp& op = graph_.customs[static_cast<size_t>(node.custom)];
    const std::string name = graph::NodeName(graph_, static_cast<size_t>(i));
    if (training_ && !op.can_train()) {
      throw Error(Unimplemented(name + ": the op has no backward; its model can't be trained"));
    }
    if (dtype_ == DType::kF32) return op.spec;
    Result<graph::OpSpec> spec = InferOp(*op.handle, graph::OpInputs(graph_, node),
                                         static_cast<uint32_t>(node.n_out), dtype_);
    if (!spec.ok()) throw Error(spec.status().WithContext(name));
    return std::move(spec).value();
  }

  void PlanCustomForward(int32_t i) {
    const Node& node = NodeAt(i);
    CustomPlan& custom = CustomAt(i);
    custom.spec = SpecOf(i);
    for (int32_t k = 0; k < node.n_out; ++k) {
      BufferId& value = value_[static_cast<size_t>(node.out + k)];
      if (k > 0) value = NewBuffer(Width(node.out + k), i);
      custom.out.push_back(value);
    }
    if (!training_) return;
    for (const graph::OpTensorSpec& saved : custom.spec.saved) {
      const int64_t size = DTypeSize(dtype_), elements = (saved.bytes() + size - 1) / size;
      custom.saved.push_back(saved.per_row ? NewBuffer(elements, i) : NewFixedBuffer(elements, i));
      Use(custom.saved.back(), BackwardTime(i));
    }
    const auto reads = [](uint64_t bits, size_t k) { return (bits >> k & 1) != 0; };
    for (size_t k = 0; k < node.in.size(); ++k) {
      if (reads(custom.spec.backward_in, k)) Use(PlanAt(i).in[k].value, BackwardTime(i));
    }
    for (size_t k = 0; k < custom.out.size(); ++k) {
      if (reads(custom.spec.backward_out, k)) Use(custom.out[k], BackwardTime(i));
    }
  }

  void PlanOutputGradients(int32_t i) {
    const Node& node = NodeAt(i);
    if (node.op != Op::kCustom) {
      PlanAt(i).d_out = grad_[static_cast<size_t>(node.out)];
      return Use(PlanAt(i).d_out, BackwardTime(i));
    }
    CustomPlan& custom = CustomAt(i);
    for (int32_t k = 0; k < node.n_out; ++k) {
      BufferId grad = grad_[static_cast<size_t>(node.out + k)];
      custom.d_out_is_zero.push_back(grad < 0);
      if (grad < 0) grad = NewBuffer(Width(node.out + k), BackwardTime(i));
      Use(grad, BackwardTime(i));
      custom.d_out.push_back(grad);
    }
  }

  void PlanBackward(int32_t i) {
    const Node& node = NodeAt(i);
    NodePlan& plan = PlanAt(i);
    PlanOutputGradients(i);
    if (node.op == Op::kLinear) PlanLoraBackward(i);
    if (node.op == Op::kMoe) {
      plan.d_scratch = NewBuffer(MoeGradientScratchWidth(graph_, node), BackwardTime(i));
    }
    if (node.op == Op::kAdd) return PlanAddBackward(i);
    for (size_t k = 0; k < node.in.size(); ++k) {
      InputPlan& in = plan.in[k];
      if (IsWeight(node.in[k])) {
        const int32_t param = graph_.values[static_cast<size_t>(node.in[k])].param;
        in.delivery = Delivery::kWeight;
        in.scratch =
            NewFixedBuffer(graph_.params[static_cast<size_t>(param)].numel(), BackwardTime(i));
        continue;
      }
      BufferId& grad = grad_[static_cast<size_t>(node.in[k])];
      if (grad < 0) {
        const bool in_place = node.op == Op::kRope && exclusive_[static_cast<size_t>(node.out)];
        grad = in_place ? plan.d_out : NewBuffer(Width(node.in[k]), BackwardTime(i));
        in.delivery = Delivery::kWrite;
      } else if (CanAccumulate(node)) {
        in.delivery = Delivery::kAccumulate;
      } else {
        in.delivery = Delivery::kAddScratch;
        in.scratch = NewBuffer(Width(node.in[k]), BackwardTime(i));
      }
      in.grad = grad;
      Use(grad, BackwardTime(i));
    }
  }

  // The gradient of a sum is that of both operands. One of them (the keeper) may take the buffer
  // over; the other may read it too if CanShare. Whoever doesn't gets a copy or an addition.
  void PlanAddBackward(int32_t i) {
    const Node& node = NodeAt(i);
    std::array<bool, 2> passes{false, false};
    if (node.in.size() == 1) {  // with a weight
      return DeliverAdd(i, 0, exclusive_[static_cast<size_t>(node.out)]);
    }
    if (exclusive_[static_cast<size_t>(node.out)] && node.in[0] != node.in[1]) {
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

  bool HasGradient(int32_t value) const { return grad_[static_cast<size_t>(value)] >= 0; }

  // Both gradients in one buffer: `other` has one reader, its producer's backward, and that runs
  // before anything is written into what `kept` owns from then on. `other` isn't exclusive, so
  // nobody writes through it.
  bool CanShare(int32_t i, int32_t kept, int32_t other) const {
    return !HasGradient(kept) && !HasGradient(other) &&
           consumers_[static_cast<size_t>(other)].size() == 1 && other != graph_.hidden &&
           LastWriterBefore(kept, i) < Producer(other);
  }

  // The last node before `i` whose backward may write into the gradient of `value`.
  int32_t LastWriterBefore(int32_t value, int32_t i) const {
    int32_t last = Producer(value);
    for (int32_t c : consumers_[static_cast<size_t>(value)]) {
      if (c < i) last = std::max(last, c);
    }
    return last;
  }

  void DeliverAdd(int32_t i, size_t k, bool passes) {
    const int32_t value = NodeAt(i).in[k];
    InputPlan& in = PlanAt(i).in[k];
    BufferId& grad = grad_[static_cast<size_t>(value)];
    if (grad >= 0) {
      in.delivery = Delivery::kAddGradient;
    } else if (passes) {
      in.delivery = Delivery::kPassThrough;
      grad = PlanAt(i).d_out;
    } else {
      in.delivery = Delivery::kCopy;
      grad = NewBuffer(Width(value), BackwardTime(i));
    }
    in.grad = grad;
    Use(grad, BackwardTime(i));
  }

  // Largest first, each at the lowest offset where it meets none of those placed that live with it.
  // Returns the size of the whole part.
  int64_t AssignOffsets(bool fixed) {
    int64_t end = 0;
    std::vector<size_t> order(plan_.buffers.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::erase_if(order, [&](size_t id) { return plan_.buffers[id].fixed != fixed; });
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return plan_.buffers[a].width > plan_.buffers[b].width;
    });
    std::vector<size_t> placed;  // by offset
    for (size_t id : order) {
      Buffer& buffer = plan_.buffers[id];
      int64_t offset = 0;
      for (size_t other_id : placed) {
        const Buffer& other = plan_.buffers[other_id];
        if (other.last < buffer.first || buffer.last < other.first) continue;
        if (other.offset >= offset + buffer.width) break;
        offset = std::max(offset, other.offset + other.width);
      }
      buffer.offset = offset;
      end = std::max(end, offset + buffer.width);
      const auto at =
          std::upper_bound(placed.begin(), placed.end(), offset,
                           [&](int64_t o, size_t p) { return o < plan_.buffers[p].offset; });
      placed.insert(at, id);
    }
    return end;
  }

  const Graph& graph_;
  const bool training_;
  const DType dtype_;
  const int32_t adapter_;
  const int32_t n_;
  std::vector<std::vector<int32_t>> consumers_;
  std::vector<BufferId> value_, grad_;
  std::vector<bool> exclusive_;  // the gradient's buffer belongs to this value alone
  Plan plan_;
};

}  // namespace

Plan MakePlan(const Graph& graph, Mode mode, DType dtype, int32_t adapter) {
  return Planner(graph, mode, dtype, adapter).Make();
}

int64_t ElementOffset(const Plan& plan, BufferId id, int64_t padded_rows) {
  const Buffer& buffer = plan.buffers[static_cast<size_t>(id)];
  if (buffer.fixed) return plan.row_elements * padded_rows + buffer.offset;
  return buffer.offset * padded_rows;
}

int64_t ArenaElements(const Plan& plan, int64_t padded_rows) {
  return plan.row_elements * padded_rows + plan.fixed_elements;
}

}  // namespace retort::engine
