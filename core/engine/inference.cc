// SPDX-License-Identifier: Apache-2.0
#include "core/engine/inference.h"

#include "core/engine/edge.h"
#include "core/engine/head.h"
#include "core/engine/pass.h"

namespace retort::engine {

struct Inference::Impl {
  Pass pass;
  Head head;
};

Inference::Inference(const graph::Graph& graph, std::span<const TensorView> params, int n_threads)
    : impl_(new Impl{.pass = Pass(graph, params, Mode::kInference, n_threads),
                     .head = Head(graph, params, n_threads)}) {}

Inference::~Inference() = default;

void Inference::SetAdapter(int32_t adapter) { impl_->pass.SetAdapter(adapter); }

TensorView Inference::Forward(const RowBatch& batch, AttentionStore* store) {
  return OnEdge("forward pass", [&] { return impl_->pass.Forward(batch, store); });
}

void Inference::Logits(const TensorView& hidden, const TensorView& out) {
  OnEdge("LM head", [&] { impl_->head.Logits(hidden, out); });
}

}  // namespace retort::engine
