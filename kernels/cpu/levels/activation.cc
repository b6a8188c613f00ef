// Activations with their derivatives, alone and as gates.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/levels/levels.h"

namespace retort::kernels::RETORT_KERNELS_NS {

template <class V>
static V Constant(double x) {
  return V::Set1(static_cast<ScalarOf<V>>(x));
}
template <class V>
static V Sigmoid(V x) {
  const V one = Constant<V>(1);
  return one / (one + Exp(V::Zero() - x));
}

// Each has Value(x) and Both(x, &value, &slope).
template <class V>
struct Silu {
  static V Value(V x) { return x * Sigmoid(x); }
  static void Both(V x, V* value, V* slope) {
    const V s = Sigmoid(x), one = Constant<V>(1);
    *value = x * s;
    *slope = s * (one + x * (one - s));
  }
};

template <class V>
struct Gelu {
  static V Phi(V x) { return Constant<V>(0.5) * Erfc(Constant<V>(-0.70710678118654752) * x); }
  static V Value(V x) { return x * Phi(x); }
  static void Both(V x, V* value, V* slope) {
    const V phi = Phi(x);
    const V density = Constant<V>(0.39894228040143268) * Exp(Constant<V>(-0.5) * x * x);
    *value = x * phi;
    *slope = phi + x * density;
  }
};

// 0.5 x (1 + tanh u) = x * sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3).
template <class V>
struct GeluTanh {
  static constexpr double kTwoRoot = 1.5957691216057308;  // 2 sqrt(2 / pi)
  static V Gate(V x) {
    const V cubic = Fma(Constant<V>(0.044715) * x * x, x, x);
    return Sigmoid(Constant<V>(kTwoRoot) * cubic);
  }
  static V Value(V x) { return x * Gate(x); }
  static void Both(V x, V* value, V* slope) {
    const V s = Gate(x), one = Constant<V>(1);
    const V inner = Constant<V>(kTwoRoot) * Fma(Constant<V>(3 * 0.044715) * x, x, one);
    *value = x * s;
    *slope = s + x * s * (one - s) * inner;
  }
};

template <class V>
struct Relu {
  static V Value(V x) { return Max(V::Zero(), x); }  // a NaN stays
  static void Both(V x, V* value, V* slope) {
    *value = Value(x);
    *slope = BlendLess(V::Zero(), x, Constant<V>(1), V::Zero());
  }
};

// Calls run(Act<V>{}) for the activation of that kind.
template <class V, class Run>
static void WithKind(int kind, Run run) {
  switch (kind) {
    case RETORT_KERNELS_GELU: return run(Gelu<V>{});
    case RETORT_KERNELS_GELU_TANH: return run(GeluTanh<V>{});
    case RETORT_KERNELS_RELU: return run(Relu<V>{});
    default: return run(Silu<V>{});
  }
}

template <class V>
void Activation<V>::Forward(int kind, const S* x, S* y, int64_t count) {
  WithKind<V>(kind, [&](auto act) {
    ForLanes(count, [&](int64_t i, auto n) {
      StoreAt(y + i, decltype(act)::Value(LoadAt<V>(x + i, n)), n);
    });
  });
}

template <class V>
void Activation<V>::Backward(int kind, const S* x, const S* dy, S* dx, int64_t count) {
  WithKind<V>(kind, [&](auto act) {
    ForLanes(count, [&](int64_t i, auto n) {
      V value, slope;
      decltype(act)::Both(LoadAt<V>(x + i, n), &value, &slope);
      StoreAt(dx + i, LoadAt<V>(dy + i, n) * slope, n);
    });
  });
}

template <class V>
void Activation<V>::Gated(const GatedArgs<S>& a, int64_t begin, int64_t end) {
  WithKind<V>(a.shape.kind, [&](auto act) {
    for (int64_t r = begin; r < end; ++r) {
      const S* gate = a.gate + r * a.shape.in_stride;
      const S* up = a.up + r * a.shape.in_stride;
      S* y = a.y + r * a.shape.out_stride;
      ForLanes(a.shape.cols, [&](int64_t i, auto n) {
        StoreAt(y + i, decltype(act)::Value(LoadAt<V>(gate + i, n)) * LoadAt<V>(up + i, n), n);
      });
    }
  });
}

template <class V>
void Activation<V>::GatedBackward(const GatedArgs<S>& a, int64_t begin, int64_t end) {
  WithKind<V>(a.shape.kind, [&](auto act) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t in = r * a.shape.in_stride;
      const S* dy_row = a.dy + r * a.shape.out_stride;
      ForLanes(a.shape.cols, [&](int64_t i, auto n) {
        const V up = LoadAt<V>(a.up + in + i, n), dy = LoadAt<V>(dy_row + i, n);
        V value, slope;
        decltype(act)::Both(LoadAt<V>(a.gate + in + i, n), &value, &slope);
        StoreAt(a.d_gate + in + i, dy * up * slope, n);
        StoreAt(a.d_up + in + i, dy * value, n);
        if (a.y != nullptr) StoreAt(a.y + r * a.shape.out_stride + i, value * up, n);
      });
    }
  });
}

RETORT_KERNELS_EMIT(Activation);

}  // namespace retort::kernels::RETORT_KERNELS_NS
