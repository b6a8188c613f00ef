// SPDX-License-Identifier: Apache-2.0
#include "core/ops/moe.h"

#include <algorithm>
#include <cstring>

#include "core/model/packed.h"
#include "core/ops/dispatch.h"
#include "core/ops/ops.h"
#include "core/ops/split.h"

namespace retort::ops {
namespace {

using graph::MoeSpec;

// Calls fn(expert, its assignments) for experts that have any, in order.
template <class Fn>
void EachExpert(const MoeOrder& order, Fn&& fn) {
  for (size_t e = 0; e + 1 < order.begin.size(); ++e) {
    const auto begin = static_cast<size_t>(order.begin[e]);
    const auto n = static_cast<size_t>(order.begin[e + 1]) - begin;
    if (n > 0) fn(static_cast<int64_t>(e), std::span(order.assignments).subspan(begin, n));
  }
}

// out[i] = x[the row of assignment i].
void GatherTokens(const TensorView& x, std::span<const int32_t> assignments, int64_t top_k,
                  const TensorView& out, int n_threads) {
  const int64_t size = DTypeSize(x.dtype);
  const auto row_bytes = static_cast<size_t>(x.shape[1] * size);
  Split(out.shape[0], out.numel(), n_threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = assignments[static_cast<size_t>(i)] / top_k;
      std::memcpy(static_cast<char*>(out.data) + i * out.strides[0] * size,
                  static_cast<const char*>(x.data) + row * x.strides[0] * size, row_bytes);
    }
  });
}

// y[the row of assignment i] += factor(i) * x[i]. Rows differ within an expert, so threads don't
// meet.
template <class T, class Factor>
void ScatterAdd(const TensorView& x, std::span<const int32_t> assignments, int64_t top_k,
                const TensorView& y, int n_threads, Factor&& factor) {
  Split(x.shape[0], x.numel(), n_threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int32_t assignment = assignments[static_cast<size_t>(i)];
      const T w = factor(assignment);
      const T* from = x.as<T>() + i * x.strides[0];
      T* to = y.as<T>() + assignment / top_k * y.strides[0];
      for (int64_t c = 0; c < x.shape[1]; ++c) to[c] += w * from[c];
    }
  });
}

// d_weights of an expert's assignments, then both rows of h and dh times their weight. `dh` is the
// gradient of h as if every weight were 1: its product with h is that of the weight.
template <class T>
void WeighRows(const MoeSpec& spec, std::span<const int32_t> assignments, const TensorView& weights,
               const TensorView& h, const TensorView& dh, const TensorView& d_weights,
               int n_threads) {
  const int64_t width = h.shape[1];
  Split(h.shape[0], h.numel(), n_threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int32_t a = assignments[static_cast<size_t>(i)];
      T *rows = h.as<T>() + i * width, *d_rows = dh.as<T>() + i * width;
      double dot = 0;
      for (int64_t c = 0; c < width; ++c) {
        dot += static_cast<double>(rows[c]) * static_cast<double>(d_rows[c]);
      }
      d_weights.as<T>()[a] = static_cast<T>(dot * spec.scale);
      const auto w = static_cast<T>(static_cast<double>(weights.as<T>()[a]) * spec.scale);
      for (int64_t c = 0; c < width; ++c) rows[c] *= w, d_rows[c] *= w;
    }
  });
}

void Clear(const TensorView& v) {
  assert(v.contiguous());
  std::memset(v.data, 0, static_cast<size_t>(v.bytes()));
}

// Hands out parts of the scratch memory, as matrices of some rows.
class Scratch {
 public:
  Scratch(void* data, DType dtype, int64_t max_rows)
      : data_(static_cast<char*>(data)), dtype_(dtype), max_rows_(max_rows) {}
  char* Take(int64_t width) {
    char* part = data_;
    data_ += max_rows_ * width * DTypeSize(dtype_);
    return part;
  }
  TensorView View(char* part, int64_t rows, int64_t width) const {
    return TensorView::Contiguous(part, dtype_, {rows, width});
  }

 private:
  char* data_;
  DType dtype_;
  int64_t max_rows_;
};

TensorView Columns(TensorView v, int64_t begin, int64_t width) {
  v.data = static_cast<char*>(v.data) + begin * DTypeSize(v.dtype);
  v.shape[1] = width;
  return v;
}

// The gradient of one expert's matrix.
TensorView GradientOf(const TensorView& stack, int64_t expert) {
  return stack.data == nullptr ? stack : ExpertMatrix(stack, expert);
}

}  // namespace

TensorView ExpertMatrix(const TensorView& stack, int64_t expert) {
  assert(stack.ndim == 3);
  const int64_t rows = stack.shape[1], cols = stack.shape[2];
  const int64_t bytes = stack.dtype == DType::kF64 ? rows * cols * DTypeSize(stack.dtype)
                                                   : model::MatrixBytes(stack.dtype, rows, cols);
  return TensorView::Contiguous(static_cast<char*>(stack.data) + expert * bytes, stack.dtype,
                                {rows, cols});
}

void MoeOrder::Sort(std::span<const int32_t> ids, int64_t n_experts) {
  begin.assign(static_cast<size_t>(n_experts) + 1, 0);
  for (const int32_t e : ids) ++begin[static_cast<size_t>(e) + 1];
  for (size_t e = 1; e < begin.size(); ++e) begin[e] += begin[e - 1];
  cursor.assign(begin.begin(), begin.end());
  assignments.resize(ids.size());
  for (size_t a = 0; a < ids.size(); ++a) {
    const int32_t at = cursor[static_cast<size_t>(ids[a])]++;
    assignments[static_cast<size_t>(at)] = static_cast<int32_t>(a);
  }
}

void MoeForward(const MoeSpec& spec, const TensorView& x, const MoeRouting& routing,
                const MoeOrder& order, const MoeWeights& weights, const TensorView& gate_up,
                const TensorView& y, void* scratch, int n_threads) {
  const int64_t hidden = spec.hidden, width = x.shape[1];
  Scratch memory(scratch, x.dtype, x.shape[0]);
  char *x_part = memory.Take(width), *y_part = memory.Take(width), *h_part = memory.Take(hidden);
  char* gate_up_part = gate_up.data == nullptr ? memory.Take(2 * hidden) : nullptr;
  const bool exact = gate_up.data != nullptr;  // training
  Clear(y);
  int64_t done = 0;
  EachExpert(order, [&](int64_t e, std::span<const int32_t> assignments) {
    const auto n = static_cast<int64_t>(assignments.size());
    const TensorView xs = memory.View(x_part, n, width), ys = memory.View(y_part, n, width);
    const TensorView h = memory.View(h_part, n, hidden);
    const TensorView both = gate_up.data == nullptr ? memory.View(gate_up_part, n, 2 * hidden)
                                                    : gate_up.Rows(done, done + n);
    GatherTokens(x, assignments, spec.top_k, xs, n_threads);
    LinearForward(xs, ExpertMatrix(weights.gate_up_E2FD, e), nullptr, both, n_threads, exact);
    GatedForward(spec.activation, Columns(both, 0, hidden), Columns(both, hidden, hidden), h,
                 n_threads);
    LinearForward(h, ExpertMatrix(weights.down_EDF, e), nullptr, ys, n_threads, exact);
    ByType(x, [&](auto zero) {
      using T = decltype(zero);
      ScatterAdd<T>(ys, assignments, spec.top_k, y, n_threads, [&](int32_t a) {
        return static_cast<T>(static_cast<double>(routing.weights_TK.as<T>()[a]) * spec.scale);
      });
    });
    done += n;
  });
}

namespace {

// One expert's part of backward.
struct ExpertBackward {
  const MoeSpec& spec;
  const MoeWeights& weights;
  const MoeRouting& routing;
  const MoeGradients& grads;
  int n_threads;

  // dy becomes dx.
  void Run(int64_t e, std::span<const int32_t> assignments, const TensorView& xs,
           const TensorView& dys, const TensorView& both, const TensorView& h,
           const TensorView& dh) const {
    const TensorView gate = Columns(both, 0, spec.hidden);
    const TensorView up = Columns(both, spec.hidden, spec.hidden);
    GatedForward(spec.activation, gate, up, h, n_threads);
    LinearBackwardInput(dys, ExpertMatrix(weights.down_EDF, e), dh, false, n_threads);
    ByType(xs, [&](auto zero) {
      WeighRows<decltype(zero)>(spec, assignments, routing.weights_TK, h, dh, grads.d_weights_TK,
                                n_threads);
    });
    if (grads.d_down.data != nullptr) {
      LinearBackwardWeight(dys, h, GradientOf(grads.d_down, e), grads.accumulate_down);
    }
    GatedBackward(spec.activation, dh, gate, up, gate, up, n_threads);  // in place
    if (grads.d_gate_up.data != nullptr) {
      LinearBackwardWeight(both, xs, GradientOf(grads.d_gate_up, e), grads.accumulate_gate_up);
    }
    LinearBackwardInput(both, ExpertMatrix(weights.gate_up_E2FD, e), dys, false, n_threads);
  }
};

// What no token writes is 0.
void ClearIdleExperts(const MoeOrder& order, const TensorView& stack, bool accumulate) {
  if (stack.data == nullptr || accumulate) return;
  for (size_t e = 0; e + 1 < order.begin.size(); ++e) {
    if (order.begin[e] == order.begin[e + 1]) Clear(ExpertMatrix(stack, static_cast<int64_t>(e)));
  }
}

}  // namespace

void MoeBackward(const MoeSpec& spec, const TensorView& dy, const TensorView& x,
                 const MoeRouting& routing, const MoeOrder& order, const MoeWeights& weights,
                 const TensorView& gate_up, const MoeGradients& grads, void* scratch,
                 int n_threads) {
  const int64_t hidden = spec.hidden, width = x.shape[1];
  Scratch memory(scratch, x.dtype, x.shape[0]);
  char *x_part = memory.Take(width), *dy_part = memory.Take(width);
  char *h_part = memory.Take(hidden), *dh_part = memory.Take(hidden);
  if (!grads.accumulate_dx) Clear(grads.dx_TD);
  ClearIdleExperts(order, grads.d_gate_up, grads.accumulate_gate_up);
  ClearIdleExperts(order, grads.d_down, grads.accumulate_down);
  const ExpertBackward backward{spec, weights, routing, grads, n_threads};
  int64_t done = 0;
  EachExpert(order, [&](int64_t e, std::span<const int32_t> assignments) {
    const auto n = static_cast<int64_t>(assignments.size());
    const TensorView xs = memory.View(x_part, n, width), dys = memory.View(dy_part, n, width);
    GatherTokens(x, assignments, spec.top_k, xs, n_threads);
    GatherTokens(dy, assignments, spec.top_k, dys, n_threads);
    backward.Run(e, assignments, xs, dys, gate_up.Rows(done, done + n),
                 memory.View(h_part, n, hidden), memory.View(dh_part, n, hidden));
    ByType(x, [&](auto zero) {
      using T = decltype(zero);
      ScatterAdd<T>(dys, assignments, spec.top_k, grads.dx_TD, n_threads,
                    [](int32_t) { return T{1}; });
    });
    done += n;
  });
}

}  // namespace retort::ops
