// SPDX-License-Identifier: Apache-2.0
#include "core/engine/gradients.h"

#include <cstring>

namespace retort::engine {
Gradients::Gradients(const graph::Graph& graph, DType dtype, int32_t adapter)
    : space_(PlaceGradients(graph, dtype, adapter)) {
  arena_.Reserve(space_.elements * DTypeSize(dtype));
  for (size_t p = 0; p < graph.params.size(); ++p) {
    const int64_t offset = space_.offset[p];
    unsigned char* data = offset >= 0 ? arena_.data() + offset * DTypeSize(dtype) : nullptr;
    views_.push_back(TensorView::Contiguous(data, dtype, graph.params[p].shape));
    wanted_.push_back(offset >= 0);
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
