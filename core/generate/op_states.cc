// SPDX-License-Identifier: Apache-2.0
#include "core/generate/op_states.h"

#include <cstring>
#include <string>

#include "core/base/checked.h"

namespace retort::generate {
namespace {

constexpr int64_t kAlignment = 64;

Status CheckDecodes(const graph::Graph& graph) {
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const graph::Node& node = graph.nodes[i];
    if (node.custom < 0 || graph.customs[static_cast<size_t>(node.custom)].can_decode()) continue;
    return Unimplemented(
        "decoding: " + graph::NodeName(graph, i) +
        ": the op is not ROWWISE and has neither state nor decode; its model can't generate");
  }
  return OkStatus();
}

}  // namespace

int64_t OpStateMemory::BytesPerSlot(const graph::Graph& graph) {
  int64_t bytes = 0;
  for (const graph::CustomOp& op : graph.customs) {
    for (const graph::OpTensorSpec& state : op.spec.state) bytes += state.bytes();
  }
  return bytes;
}

Result<OpStateMemory> OpStateMemory::Create(const graph::Graph& graph, int64_t slots) {
  RETORT_RETURN_IF_ERROR(CheckDecodes(graph));
  OpStateMemory memory;
  memory.slots_ = slots;
  std::vector<int64_t> offsets;
  int64_t total = 0;
  for (const graph::CustomOp& op : graph.customs) {
    for (const graph::OpTensorSpec& state : op.spec.state) {
      offsets.push_back(total);
      int64_t bytes = 0;
      if (!CheckedMul(state.bytes(), slots + 1, &bytes) ||
          !CheckedAdd(total, bytes + kAlignment, &total)) {
        return ResourceExhausted("op states: more than any machine has; lower max_batch");
      }
      total = total / kAlignment * kAlignment;
    }
  }
  if (total > 0) {
    memory.memory_.reset(
        static_cast<unsigned char*>(std::aligned_alloc(kAlignment, static_cast<size_t>(total))));
    if (memory.memory_ == nullptr) {
      return ResourceExhausted("op states: no memory for " + std::to_string(slots) + " slots x " +
                               std::to_string(BytesPerSlot(graph)) + " bytes; lower max_batch");
    }
  }
  for (const graph::CustomOp& op : graph.customs) {
    std::vector<unsigned char*>& data = memory.of_custom_.emplace_back();
    for (const graph::OpTensorSpec& state : op.spec.state) {
      data.push_back(memory.memory_.get() + offsets[memory.tensors_.size()]);
      memory.tensors_.push_back({data.back(), static_cast<size_t>(state.bytes())});
    }
  }
  return memory;
}

void OpStateMemory::Clear(int32_t slot) {
  for (const Tensor& t : tensors_) {
    std::memset(t.data + static_cast<size_t>(slot) * t.bytes, 0, t.bytes);
  }
}

void OpStateMemory::Copy(int64_t from, int64_t to) {
  for (const Tensor& t : tensors_) {
    std::memcpy(t.data + static_cast<size_t>(to) * t.bytes,
                t.data + static_cast<size_t>(from) * t.bytes, t.bytes);
  }
}

engine::OpStates OpStateMemory::Of(int32_t custom, std::span<const int32_t> slots) const {
  return {.data = of_custom_[static_cast<size_t>(custom)], .slots = slots_ + 1, .slot = slots};
}

}  // namespace retort::generate
