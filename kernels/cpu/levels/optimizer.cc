// AdamW, Lion and SGD in one pass each; a block of the sum of squares.
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

static F16 SetF32(double x) { return F16::Set1(static_cast<float>(x)); }

void Lion(const retort_lion_params& h, float* p, const float* grad, float* m, int64_t count) {
  const F16 keep = SetF32(1 - h.learning_rate * h.weight_decay), scale = SetF32(h.grad_scale);
  const F16 beta1 = SetF32(h.beta1), rest1 = SetF32(1 - h.beta1);
  const F16 beta2 = SetF32(h.beta2), rest2 = SetF32(1 - h.beta2);
  const F16 zero = F16::Zero(), up = SetF32(h.learning_rate), down = zero - up;
  ForLanes(count, [&](int64_t i, auto n) {
    const F16 g = LoadAt<F16>(grad + i, n) * scale, m0 = LoadAt<F16>(m + i, n);
    const F16 c = beta1 * m0 + rest1 * g;
    const F16 step = BlendLess(zero, c, up, BlendLess(c, zero, down, zero));
    StoreAt(p + i, LoadAt<F16>(p + i, n) * keep - step, n);
    StoreAt(m + i, beta2 * m0 + rest2 * g, n);
  });
}

void Sgd(const retort_sgd_params& h, float* p, const float* grad, float* m, int64_t count) {
  const F16 keep = SetF32(h.keep), l2 = SetF32(h.l2), scale = SetF32(h.grad_scale);
  const F16 m_keep = SetF32(h.m_keep), m_grad = SetF32(h.m_grad);
  const F16 u_grad = SetF32(h.u_grad), u_m = SetF32(h.u_m), rate = SetF32(h.learning_rate);
  ForLanes(count, [&](int64_t i, auto n) {
    const F16 p0 = LoadAt<F16>(p + i, n) * keep;
    const F16 g = LoadAt<F16>(grad + i, n) * scale + l2 * p0;
    F16 update = u_grad * g;
    if (m != nullptr) {
      const F16 m1 = m_keep * LoadAt<F16>(m + i, n) + m_grad * g;
      StoreAt(m + i, m1, n);
      update = update + u_m * m1;
    }
    StoreAt(p + i, p0 - rate * update, n);
  });
}

float SquareRow(const float* g, const float* by_col, int64_t count) {
  F16 sum = F16::Zero();
  ForLanes(count, [&](int64_t j, auto n) {
    F16 x = LoadAt<F16>(g + j, n);
    if (by_col != nullptr) x = x * LoadAt<F16>(by_col + j, n);
    sum = Fma(x, x, sum);
  });
  return Sum(sum);
}

// One vector of columns over all rows.
template <class N>
static F16 ColumnSquares(const retort_factored_matrix& a, int64_t j, N n) {
  F16 total = F16::Zero();
  for (int64_t first = 0; first < a.rows; first += kSquaresRows) {
    const int64_t end = first + kSquaresRows < a.rows ? first + kSquaresRows : a.rows;
    F16 sum = F16::Zero();
    for (int64_t i = first; i < end; ++i) {
      const F16 x = LoadAt<F16>(a.grad + i * a.cols + j, n);
      sum = Fma(x, x, sum);
    }
    total = total + sum;
  }
  return total;
}

void SquareColumns(const retort_factored_matrix& a, float* means, int64_t begin, int64_t end) {
  const F16 rows = F16::Set1(static_cast<float>(a.rows));
  ForLanes(end - begin, [&](int64_t j, auto n) {
    StoreAt(means + begin + j, ColumnSquares(a, begin + j, n) / rows, n);
  });
}

void FactoredUpdate(const float* g, const float* by_col, float keep, float scale, float* p,
                    int64_t count) {
  const F16 keeps = F16::Set1(keep), scales = F16::Set1(scale);
  ForLanes(count, [&](int64_t j, auto n) {
    const F16 update = LoadAt<F16>(g + j, n) * (scales * LoadAt<F16>(by_col + j, n));
    StoreAt(p + j, LoadAt<F16>(p + j, n) * keeps - update, n);
  });
}

}  // namespace retort::kernels::RETORT_KERNELS_NS
