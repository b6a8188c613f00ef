// SPDX-License-Identifier: Apache-2.0
#include "core/engine/gradients.h"

#include <cstring>

#include "core/engine/plan.h"
#include "core/graph/merge.h"

namespace retort::engine {
namespace {

constexpr int64_t kAlignment = 64;

int64_t Padded(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

Gradients::Gradients(const graph::Graph& graph, DType dtype, int32_t adapter) {
  int64_t total = 0;
  for (const graph::Param& param : graph.params) {
    wanted_.push_back(IsTrained(param, adapter));
    if (wanted_.back()) total += Padded(param.numel() * DTypeSize(dtype));
  }
  arena_.Reserve(total);
  int64_t offset = 0;
  views_.resize(graph.params.size());
  for (int32_t index : graph::ParamOrder(graph)) {
    const auto p = static_cast<size_t>(index);
    unsigned char* data = wanted_[p] ? arena_.data() + offset : nullptr;
    views_[p] = TensorView::Contiguous(data, dtype, graph.params[p].shape);
    if (wanted_[p]) offset += Padded(views_[p].bytes());
  }
  touched_.resize(views_.size());
}

void Gradients::Begin() { touched_.assign(touched_.size(), false); }

bool Gradients::MustAccumulate(int32_t param) {
  const bool before = touched_[static_cast<size_t>(param)];
  touched_[static_cast<size_t>(param)] = true;
  return before;
}

const TensorView& Gradients::ForAdding(int32_t param) {
  const TensorView& grad = view(param);
  if (!MustAccumulate(param)) std::memset(grad.data, 0, static_cast<size_t>(grad.bytes()));
  return grad;
}

void Gradients::Finish() {
  for (size_t p = 0; p < views_.size(); ++p) {
    if (wanted_[p]) ForAdding(static_cast<int32_t>(p));
  }
}

}  // namespace retort::engine
