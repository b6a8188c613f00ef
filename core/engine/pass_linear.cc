// Linear nodes: forward, backward, and the low-rank part that an adapter adds to them.
// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "core/base/rng.h"
#include "core/engine/pass.h"
#include "core/ops/dispatch.h"
#include "core/ops/dropout.h"
#include "core/ops/gemm.h"

namespace retort::engine {
namespace {

using graph::LoraPart;
using graph::Node;

TensorView Columns(TensorView matrix, int64_t begin, int64_t n) {
  matrix.data = static_cast<char*>(matrix.data) + begin * DTypeSize(matrix.dtype);
  matrix.shape[1] = n;
  return matrix;
}

// Rows may be padded.
void Scale(const TensorView& matrix, double factor) {
  if (factor == 1) return;
  ops::ByType(matrix, [&](auto zero) {
    using T = decltype(zero);
    const T by = static_cast<T>(factor);
    for (int64_t t = 0; t < matrix.shape[0]; ++t) {
      T* row = matrix.as<T>() + t * matrix.strides[0];
      for (int64_t i = 0; i < matrix.shape[1]; ++i) row[i] *= by;
    }
  });
}

}  // namespace

void Pass::SetAdapter(int32_t adapter) {
  const auto n = static_cast<int32_t>(graph_.adapters.size());
  if (adapter < -1 || adapter >= n) {
    throw Error(InvalidArgument("adapter " + std::to_string(adapter) +
                                " was asked for; the model has " + std::to_string(n) +
                                " (-1: the base alone)"));
  }
  adapter_ = adapter;
}

void Pass::ForwardLinear(const Node& node, const NodePlan& plan) {
  ops::LinearForward(View(plan.in[0].value), WeightOf(node, plan), BiasOf(node, plan),
                     View(plan.out), n_threads_, /*exact=*/mode_ == Mode::kTraining,
                     /*any_company=*/generates_);
  if (adapter_ >= 0 && !node.lora.empty()) ForwardLora(node, plan);
}

// h = scale * dropout(x) A^T stays for backward; y += h B^T.
void Pass::ForwardLora(const Node& node, const NodePlan& plan) {
  int64_t begin = 0;
  for (const LoraPart& part : node.lora) {
    if (part.adapter != adapter_) continue;
    const TensorView& a = params_[static_cast<size_t>(part.a)];
    const TensorView& b = params_[static_cast<size_t>(part.b)];
    TensorView x = View(plan.in[0].value);
    if (Drops(part)) {
      const TensorView dropped = View(plan.lora_x);
      DropLoraInput(part, x, dropped);
      x = dropped;
    }
    const TensorView h = Columns(View(plan.saved), begin, a.shape[0]);
    ops::LinearForward(x, a, nullptr, h, n_threads_);
    Scale(h, part.scale);
    AddLowRank(h, b.Rows(part.b_begin, part.b_begin + part.n_out),
               Columns(View(plan.out), part.out_begin, part.n_out));
    begin += a.shape[0];
  }
}

// y += h B^T. Few rows go through the kernel whose rows don't depend on each other.
void Pass::AddLowRank(const TensorView& h, const TensorView& b, const TensorView& y) {
  if (h.dtype != DType::kF32 || h.shape[0] > ops::kSkinnyRows) {
    return ops::Gemm(h, ops::Transpose::kNo, b, ops::Transpose::kYes, y, /*accumulate=*/true);
  }
  const auto needed = static_cast<size_t>(ops::kSkinnyRows * b.shape[0]);
  if (low_rank_rows_.size() < needed) low_rank_rows_.resize(needed);
  const TensorView sum =
      TensorView::Contiguous(low_rank_rows_.data(), DType::kF32, {h.shape[0], b.shape[0]});
  ops::LinearForward(h, b, nullptr, sum, n_threads_);
  for (int64_t t = 0; t < y.shape[0]; ++t) {
    float* row = y.as<float>() + t * y.strides[0];
    const float* add = sum.as<float>() + t * sum.strides[0];
    for (int64_t i = 0; i < y.shape[1]; ++i) row[i] += add[i];
  }
}

// Evaluation runs through a training pass, too, but under no step.
bool Pass::Drops(const LoraPart& part) const {
  return mode_ == Mode::kTraining && part.dropout > 0 && batch_.call.step >= 0;
}

// Keyed by the module, so that nodes that share it drop alike, as in one product over all its rows.
void Pass::DropLoraInput(const LoraPart& part, const TensorView& x, const TensorView& out) const {
  const RngKey key{batch_.call.key.hi, batch_.call.key.lo};
  ops::Dropout(Derive(Derive(key, "dropout"), graph_.params[static_cast<size_t>(part.a)].name),
               part.dropout, x, out, n_threads_);
}

void Pass::BackwardLinear(const Node& node, const NodePlan& plan, Gradients& grads) {
  const TensorView dy = View(plan.d_out);
  const int32_t weight = node.params[0], bias = node.params[1];
  if (plan.group >= 0) {
    BackwardGroup(plan, grads);
  } else {
    if (grads.Wanted(weight)) {
      const bool accumulate = grads.MustAccumulate(weight);
      ops::LinearBackwardWeight(dy, View(plan.in[0].value), grads.view(weight), accumulate);
    }
    if (bias >= 0 && grads.Wanted(bias)) {
      ops::LinearBackwardBias(dy, grads.ForAdding(bias), n_threads_);
    }
  }
  const bool wants_dx = plan.in[0].grad >= 0;
  const TensorView dx = wants_dx ? View(plan.in[0].grad) : TensorView{};
  if (wants_dx) {
    ops::LinearBackwardInput(dy, WeightOf(node, plan), dx,
                             plan.in[0].delivery == Delivery::kAccumulate, n_threads_);
  }
  if (adapter_ >= 0 && !node.lora.empty()) {
    BackwardLora(node, plan, wants_dx ? &dx : nullptr, grads);
  }
}

// Weights and biases of a group at once: their gradients lie side by side as they do.
void Pass::BackwardGroup(const NodePlan& plan, Gradients& grads) {
  const graph::MergeGroup& group = plan_.groups[static_cast<size_t>(plan.group)];
  const Node& first = NodeAt(static_cast<size_t>(group.nodes[0]));
  const TensorView dy = View(plan.d_out);
  if (grads.Wanted(first.params[0])) {
    bool accumulate = false;
    for (int32_t i : group.nodes) {
      accumulate = grads.MustAccumulate(NodeAt(static_cast<size_t>(i)).params[0]);
    }
    TensorView dw = grads.view(first.params[0]);
    dw.shape[0] = dy.shape[1];
    ops::LinearBackwardWeight(dy, View(plan.in[0].value), dw, accumulate);
  }
  if (first.params[1] < 0 || !grads.Wanted(first.params[1])) return;
  for (int32_t i : group.nodes) grads.ForAdding(NodeAt(static_cast<size_t>(i)).params[1]);
  TensorView db = grads.view(first.params[1]);
  db.shape[0] = dy.shape[1];
  ops::LinearBackwardBias(dy, db, n_threads_);
}

// dB = dy^T h, dh = scale * dy B, dA = dh^T dropout(x), dx += dropout(dh A).
void Pass::BackwardLora(const Node& node, const NodePlan& plan, const TensorView* dx,
                        Gradients& grads) {
  int64_t begin = 0;
  for (const LoraPart& part : node.lora) {
    if (part.adapter != adapter_) continue;
    const TensorView& a = params_[static_cast<size_t>(part.a)];
    const TensorView& b = params_[static_cast<size_t>(part.b)];
    const int64_t r = a.shape[0], b_end = part.b_begin + part.n_out;
    const TensorView dy = Columns(View(plan.d_out), part.out_begin, part.n_out);
    const TensorView h = Columns(View(plan.saved), begin, r);
    const TensorView dh = Columns(View(plan.lora_dh), begin, r);
    begin += r;
    if (part.n_out == b.shape[0]) {
      const bool accumulate = grads.MustAccumulate(part.b);
      ops::LinearBackwardWeight(dy, h, grads.view(part.b), accumulate);
    } else {  // some rows of a module that several nodes compute
      ops::LinearBackwardWeight(dy, h, grads.ForAdding(part.b).Rows(part.b_begin, b_end), true);
    }
    ops::LinearBackwardInput(dy, b.Rows(part.b_begin, b_end), dh, /*accumulate=*/false);
    Scale(dh, part.scale);
    const bool drops = Drops(part);
    TensorView x = View(plan.in[0].value);
    if (drops) {
      DropLoraInput(part, x, View(plan.lora_dx));
      x = View(plan.lora_dx);
    }
    const bool accumulate = grads.MustAccumulate(part.a);
    ops::LinearBackwardWeight(dh, x, grads.view(part.a), accumulate);
    if (dx == nullptr) continue;
    if (!drops) {
      ops::LinearBackwardInput(dh, a, *dx, /*accumulate=*/true);
      continue;
    }
    const TensorView dropped = View(plan.lora_dx);
    ops::LinearBackwardInput(dh, a, dropped, /*accumulate=*/false);
    DropLoraInput(part, dropped, dropped);
    ops::AddForward(*dx, dropped, *dx, n_threads_);
  }
}

}  // namespace retort::engine
