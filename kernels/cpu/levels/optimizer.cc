// AdamW in one pass; a block of the sum of squares.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/levels/levels.h"

namespace retort::kernels::RETORT_KERNELS_NS {

// torch's order of operations: decay, moments, then p -= (lr / c1) * m / (sqrt(v) / sqrt(c2) +
// eps).
template <class V>
void Optimizer<V>::AdamW(const retort_adamw_params& h, S* p, const S* grad, S* m, S* v,
                         int64_t count) {
  const auto set = [](double x) { return V::Set1(static_cast<S>(x)); };
  const V keep = set(1 - h.learning_rate * h.weight_decay), grad_scale = set(h.grad_scale);
  const V beta2 = set(h.beta2), rest1 = set(1 - h.beta1), rest2 = set(1 - h.beta2);
  const V step = set(h.learning_rate / h.bias_correction1);
  const V root = set(sqrt(h.bias_correction2)), eps = set(h.eps);
  ForLanes(count, [&](int64_t i, auto n) {
    const V g = LoadAt<V>(grad + i, n) * grad_scale;
    const V m0 = LoadAt<V>(m + i, n);
    const V m1 = m0 + rest1 * (g - m0);
    const V v1 = beta2 * LoadAt<V>(v + i, n) + rest2 * g * g;
    StoreAt(m + i, m1, n);
    StoreAt(v + i, v1, n);
    const V update = step * (m1 / (Sqrt(v1) / root + eps));
    StoreAt(p + i, LoadAt<V>(p + i, n) * keep - update, n);
  });
}

template <class V>
double Optimizer<V>::SumSquaresBlock(const S* x, int64_t count) {
  V sum = V::Zero();
  ForLanes(count, [&](int64_t i, auto n) {
    const V v = LoadAt<V>(x + i, n);
    sum = Fma(v, v, sum);
  });
  return static_cast<double>(Sum(sum));
}

RETORT_KERNELS_EMIT(Optimizer);

}  // namespace retort::kernels::RETORT_KERNELS_NS
