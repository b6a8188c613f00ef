// SPDX-License-Identifier: Apache-2.0
#include "core/engine/head.h"

#include <algorithm>
#include <cmath>

#include "core/ops/dispatch.h"
#include "core/ops/ops.h"

namespace retort::engine {

void Head::Logits(const TensorView& hidden, const TensorView& out) const {
  ops::LinearForward(hidden, weight_, nullptr, out, n_threads_, exact_);
  if (graph_.logit_scale != 1) ops::ScaleForward(out, graph_.logit_scale, out, n_threads_);
  if (graph_.logit_soft_cap <= 0) return;
  ops::ByType(out, [&](auto zero) {
    using T = decltype(zero);
    const T cap = static_cast<T>(graph_.logit_soft_cap);
    T* z = out.as<T>();
    for (int64_t i = 0; i < out.numel(); ++i) z[i] = cap * std::tanh(z[i] / cap);
  });
}

void Head::Backward(const TensorView& d_logits, const TensorView* logits, const TensorView& hidden,
                    const TensorView& d_hidden, Gradients& grads) const {
  if (graph_.logit_soft_cap > 0) {
    ops::ByType(d_logits, [&](auto zero) {
      using T = decltype(zero);
      const T cap = static_cast<T>(graph_.logit_soft_cap);
      const T* z = logits->as<T>();
      T* dz = d_logits.as<T>();
      for (int64_t i = 0; i < d_logits.numel(); ++i) dz[i] *= 1 - (z[i] / cap) * (z[i] / cap);
    });
  }
  if (graph_.logit_scale != 1) {
    ops::ScaleForward(d_logits, graph_.logit_scale, d_logits, n_threads_);
  }
  ops::LinearBackwardInput(d_logits, weight_, d_hidden, /*accumulate=*/false, n_threads_);
  if (!grads.Wanted(graph_.head)) return;
  const bool accumulate = grads.MustAccumulate(graph_.head);
  ops::LinearBackwardWeight(d_logits, hidden, grads.view(graph_.head), accumulate);
}

}  // namespace retort::engine
