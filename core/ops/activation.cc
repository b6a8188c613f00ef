// activation and gated. SiLU and the GELUs come from kernels; relu^2 and sigmoid, which no gated
// family here uses, are plain loops.
// SPDX-License-Identifier: Apache-2.0
#include "retort/kernels/activation.h"

#include <cmath>

#include "core/ops/dispatch.h"
#include "core/ops/ops.h"

namespace retort::ops {

static_assert(RETORT_ACTIVATION_SILU == static_cast<uint32_t>(RETORT_KERNELS_SILU));
static_assert(RETORT_ACTIVATION_GELU == static_cast<uint32_t>(RETORT_KERNELS_GELU));
static_assert(RETORT_ACTIVATION_GELU_TANH == static_cast<uint32_t>(RETORT_KERNELS_GELU_TANH));

namespace {

bool InKernels(uint32_t kind) { return kind <= RETORT_ACTIVATION_GELU_TANH; }

template <class T>
T Value(uint32_t kind, T x) {
  if (kind == RETORT_ACTIVATION_RELU2) return x > 0 ? x * x : T{0};
  return 1 / (1 + std::exp(-x));
}
template <class T>
T Slope(uint32_t kind, T x) {
  if (kind == RETORT_ACTIVATION_RELU2) return x > 0 ? 2 * x : T{0};
  const T y = Value(kind, x);
  return y * (1 - y);
}

retort_gated_shape Shape(uint32_t kind, const TensorView& gate, const TensorView& y) {
  return {.rows = y.shape[0],
          .cols = y.shape[1],
          .in_stride = gate.strides[0],
          .out_stride = y.strides[0],
          .kind = static_cast<int32_t>(kind),
          .reserved = 0};
}

// Calls fn(offset in inputs, offset in outputs) for every element.
template <class Fn>
void ForEach(const TensorView& in, const TensorView& out, Fn&& fn) {
  for (int64_t r = 0; r < in.shape[0]; ++r) {
    for (int64_t c = 0; c < in.shape[1]; ++c) {
      fn(r * in.strides[0] + c, r * out.strides[0] + c);
    }
  }
}

// product NULL: not wanted.
void BackwardOfGated(uint32_t kind, const TensorView& dy, const TensorView& gate,
                     const TensorView& up, const TensorView& d_gate, const TensorView& d_up,
                     const TensorView* product, int n_threads) {
  if (!InKernels(kind)) {
    ByType(gate, [&](auto zero) {
      using T = decltype(zero);
      const T *g = gate.as<T>(), *u = up.as<T>(), *grad = dy.as<T>();
      T *dg = d_gate.as<T>(), *du = d_up.as<T>();
      T* const again = product == nullptr ? nullptr : product->as<T>();
      ForEach(gate, dy, [&](int64_t i, int64_t o) {
        const T gate_value = g[i], up_value = u[i], dy_value = grad[o];
        const T value = Value(kind, gate_value);
        dg[i] = dy_value * up_value * Slope(kind, gate_value);
        du[i] = dy_value * value;
        if (again != nullptr) again[o] = value * up_value;
      });
    });
    return;
  }
  const retort_gated_shape shape = Shape(kind, gate, dy);
  if (gate.dtype == DType::kF32) {
    retort_gated_backward_again_f32(&shape, gate.as<float>(), up.as<float>(), dy.as<float>(),
                                    d_gate.as<float>(), d_up.as<float>(),
                                    product == nullptr ? nullptr : product->as<float>(), n_threads);
  } else {
    retort_gated_backward_again_f64(
        &shape, gate.as<double>(), up.as<double>(), dy.as<double>(), d_gate.as<double>(),
        d_up.as<double>(), product == nullptr ? nullptr : product->as<double>(), n_threads);
  }
}

}  // namespace

void ActivationForward(uint32_t kind, const TensorView& x, const TensorView& y, int n_threads) {
  if (!InKernels(kind)) {
    ByType(x, [&](auto zero) {
      using T = decltype(zero);
      const T* in = x.as<T>();
      T* out = y.as<T>();
      for (int64_t i = 0; i < x.numel(); ++i) out[i] = Value(kind, in[i]);
    });
  } else if (x.dtype == DType::kF32) {
    retort_activation_f32(static_cast<int>(kind), x.as<float>(), y.as<float>(), x.numel(),
                          n_threads);
  } else {
    retort_activation_f64(static_cast<int>(kind), x.as<double>(), y.as<double>(), x.numel(),
                          n_threads);
  }
}

void ActivationBackward(uint32_t kind, const TensorView& dy, const TensorView& x,
                        const TensorView& dx, int n_threads) {
  if (!InKernels(kind)) {
    ByType(x, [&](auto zero) {
      using T = decltype(zero);
      const T *in = x.as<T>(), *grad = dy.as<T>();
      T* out = dx.as<T>();
      for (int64_t i = 0; i < x.numel(); ++i) out[i] = grad[i] * Slope(kind, in[i]);
    });
  } else if (x.dtype == DType::kF32) {
    retort_activation_backward_f32(static_cast<int>(kind), x.as<float>(), dy.as<float>(),
                                   dx.as<float>(), x.numel(), n_threads);
  } else {
    retort_activation_backward_f64(static_cast<int>(kind), x.as<double>(), dy.as<double>(),
                                   dx.as<double>(), x.numel(), n_threads);
  }
}

void GatedForward(uint32_t kind, const TensorView& gate, const TensorView& up, const TensorView& y,
                  int n_threads) {
  if (!InKernels(kind)) {
    ByType(gate, [&](auto zero) {
      using T = decltype(zero);
      const T *g = gate.as<T>(), *u = up.as<T>();
      T* out = y.as<T>();
      ForEach(gate, y, [&](int64_t i, int64_t o) { out[o] = Value(kind, g[i]) * u[i]; });
    });
    return;
  }
  const retort_gated_shape shape = Shape(kind, gate, y);
  if (gate.dtype == DType::kF32) {
    retort_gated_f32(&shape, gate.as<float>(), up.as<float>(), y.as<float>(), n_threads);
  } else {
    retort_gated_f64(&shape, gate.as<double>(), up.as<double>(), y.as<double>(), n_threads);
  }
}

void GatedBackward(uint32_t kind, const TensorView& dy, const TensorView& gate,
                   const TensorView& up, const TensorView& d_gate, const TensorView& d_up,
                   int n_threads) {
  BackwardOfGated(kind, dy, gate, up, d_gate, d_up, nullptr, n_threads);
}

void GatedBackwardAgain(uint32_t kind, const TensorView& dy, const TensorView& gate,
                        const TensorView& up, const TensorView& d_gate, const TensorView& d_up,
                        const TensorView& product, int n_threads) {
  BackwardOfGated(kind, dy, gate, up, d_gate, d_up, &product, n_threads);
}

}  // namespace retort::ops
