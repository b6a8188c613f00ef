// Method: scores are worked out again wherever they are needed, so memory stays linear in the
// length. Threads split the key/value heads: a head's dk and dv then have one writer. Slow (no
// blocking, one multiply at a time), and meant to be: windows and soft caps are rare here, and a
// plain rendering is what the fast path is checked against.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/ops/attention_paths.h"
#include "core/ops/dispatch.h"
#include "retort/kernels/parallel.h"

namespace retort::ops {
namespace {

template <class Fn>
void ParallelHeads(int64_t n, int n_threads, Fn&& fn) {
  retort_parallel_for(
      n, n_threads, [](void* context, int64_t i) { (*static_cast<Fn*>(context))(i); }, &fn);
}

// One query head against its key/value head.
template <class T>
struct Head {
  const graph::AttentionSpec& spec;
  const AttentionOperands& x;
  int64_t head;
  int64_t length = x.q.shape[0];
  int64_t group = head / (spec.n_heads / spec.n_kv_heads);

  T* Row(const TensorView& view, int64_t row, int64_t h) const {
    return view.as<T>() + row * view.strides[0] + h * spec.head_dim;
  }
  int64_t FirstKey(int64_t i) const {
    return spec.window > 0 ? std::max<int64_t>(0, i - spec.window + 1) : 0;
  }
  double Dot(const T* a, const T* b) const {
    double sum = 0;
    for (int64_t d = 0; d < spec.head_dim; ++d) {
      sum += static_cast<double>(a[d]) * static_cast<double>(b[d]);
    }
    return sum;
  }
  double Score(int64_t i, int64_t j) const {
    const double raw = spec.scale * Dot(Row(x.q, i, head), Row(x.k, j, group));
    return spec.soft_cap > 0 ? spec.soft_cap * std::tanh(raw / spec.soft_cap) : raw;
  }
  T& Lse(int64_t i) const { return x.lse->as<T>()[i * x.lse->strides[0] + head]; }

  void Forward(int64_t i) const {
    double top = -std::numeric_limits<double>::infinity(), total = 0;
    for (int64_t j = FirstKey(i); j <= i; ++j) top = std::max(top, Score(i, j));
    T* out = Row(x.out, i, head);
    std::fill(out, out + spec.head_dim, T{0});
    for (int64_t j = FirstKey(i); j <= i; ++j) total += std::exp(Score(i, j) - top);
    for (int64_t j = FirstKey(i); j <= i; ++j) {
      AddScaled(out, Row(x.v, j, group), std::exp(Score(i, j) - top) / total);
    }
    if (x.lse != nullptr) Lse(i) = static_cast<T>(top + std::log(total));
  }

  void Backward(int64_t i, const TensorView& d_out, const AttentionGradients& grads) const {
    const T* dy = Row(d_out, i, head);
    const double mean = Dot(dy, Row(x.out, i, head));
    for (int64_t j = FirstKey(i); j <= i; ++j) {
      const double score = Score(i, j);
      const double p = std::exp(score - static_cast<double>(Lse(i)));
      AddScaled(Row(grads.dv, j, group), dy, p);
      double d_score = p * (Dot(dy, Row(x.v, j, group)) - mean) * spec.scale;
      if (spec.soft_cap > 0) d_score *= 1 - (score / spec.soft_cap) * (score / spec.soft_cap);
      AddScaled(Row(grads.dq, i, head), Row(x.k, j, group), d_score);
      AddScaled(Row(grads.dk, j, group), Row(x.q, i, head), d_score);
    }
  }

  void AddScaled(T* y, const T* from, double factor) const {
    for (int64_t d = 0; d < spec.head_dim; ++d) {
      y[d] = static_cast<T>(static_cast<double>(y[d]) + factor * static_cast<double>(from[d]));
    }
  }
};

template <class T>
void Clear(const TensorView& view) {
  for (int64_t r = 0; r < view.shape[0]; ++r) {
    T* row = view.as<T>() + r * view.strides[0];
    std::fill(row, row + view.shape[1], T{0});
  }
}

}  // namespace

void PlainForward(const graph::AttentionSpec& spec, const AttentionOperands& x, int n_threads) {
  ByType(x.q, [&](auto zero) {
    ParallelHeads(spec.n_heads, n_threads, [&](int64_t head) {
      const Head<decltype(zero)> h{.spec = spec, .x = x, .head = head};
      for (int64_t i = 0; i < h.length; ++i) h.Forward(i);
    });
  });
}

void PlainBackward(const graph::AttentionSpec& spec, const TensorView& d_out,
                   const AttentionOperands& x, const AttentionGradients& grads, int n_threads) {
  ByType(x.q, [&](auto zero) {
    using T = decltype(zero);
    for (const TensorView& view : {grads.dq, grads.dk, grads.dv}) Clear<T>(view);
    const int64_t heads_per_group = spec.n_heads / spec.n_kv_heads;
    ParallelHeads(spec.n_kv_heads, n_threads, [&](int64_t group) {
      for (int64_t n = 0; n < heads_per_group; ++n) {
        const Head<T> h{.spec = spec, .x = x, .head = group * heads_per_group + n};
        for (int64_t i = 0; i < h.length; ++i) h.Backward(i, d_out, grads);
      }
    });
  });
}

}  // namespace retort::ops
