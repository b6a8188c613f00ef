// Checks an op's backward in f64 twice: against central differences of its own forward, and
// against LibTorch's autograd over an independent rendering of the formula.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "core/base/rng.h"
#include "core/base/tensor.h"

namespace retort::ops::test {

// A dense f64 array of random numbers (or zeros).
class Array {
 public:
  Array(std::vector<int64_t> shape, uint64_t seed, double scale = 1) : shape_(std::move(shape)) {
    int64_t n = 1;
    for (int64_t d : shape_) n *= d;
    values_.resize(static_cast<size_t>(n));
    Rng rng(RngKey{0, seed});
    for (double& v : values_) v = scale * rng.Normal();
  }
  static Array Zeros(std::vector<int64_t> shape) { return Array(std::move(shape), 0, 0); }

  TensorView view() { return TensorView::Contiguous(values_.data(), DType::kF64, shape_); }
  std::vector<double>& values() { return values_; }
  const std::vector<int64_t>& shape() const { return shape_; }
  at::Tensor Clone() {
    return at::from_blob(values_.data(), shape_, at::TensorOptions().dtype(at::kDouble)).clone();
  }

 private:
  std::vector<int64_t> shape_;
  std::vector<double> values_;
};

struct OpCase {
  std::vector<Array*> inputs;  // that the op is differentiated by
  std::vector<Array*> grads;   // that `backward` writes, in the order of inputs
  Array& y;
  Array& dy;  // random: the loss is sum(y * dy)
  std::function<void()> forward, backward;
  std::function<at::Tensor(const std::vector<at::Tensor>&)> reference;
};

inline void ExpectClose(const std::vector<double>& got, const std::vector<double>& want,
                        double tolerance, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], want[i], tolerance * (1 + std::abs(want[i]))) << what << " [" << i << "]";
  }
}

inline std::vector<double> ToVector(const at::Tensor& t) {
  const at::Tensor flat = t.contiguous();
  const auto* data = flat.const_data_ptr<double>();
  return {data, data + flat.numel()};
}

inline double LossOf(OpCase& c) {
  c.forward();
  double sum = 0;
  for (size_t i = 0; i < c.y.values().size(); ++i) sum += c.y.values()[i] * c.dy.values()[i];
  return sum;
}

inline void CheckCentralDifferences(OpCase& c) {
  // Truncation is O(h^2), rounding O(1e-16 / h): both near 1e-10 of a sum of order 10.
  constexpr double kStep = 1e-5, kTolerance = 1e-7;
  for (size_t k = 0; k < c.inputs.size(); ++k) {
    std::vector<double> numeric;
    for (double& v : c.inputs[k]->values()) {
      const double kept = v;
      v = kept + kStep;
      const double above = LossOf(c);
      v = kept - kStep;
      const double below = LossOf(c);
      v = kept;
      numeric.push_back((above - below) / (2 * kStep));
    }
    ExpectClose(c.grads[k]->values(), numeric, kTolerance,
                "central differences of input " + std::to_string(k));
  }
}

inline void CheckAutograd(OpCase& c) {
  std::vector<at::Tensor> leaves;
  for (Array* input : c.inputs) leaves.push_back(input->Clone().requires_grad_());
  const at::Tensor y = c.reference(leaves);
  ExpectClose(c.y.values(), ToVector(y.detach()), 1e-11, "forward");
  (y * c.dy.Clone().view(y.sizes())).sum().backward();
  for (size_t k = 0; k < leaves.size(); ++k) {
    ExpectClose(c.grads[k]->values(), ToVector(leaves[k].grad()), 1e-10,
                "autograd of input " + std::to_string(k));
  }
}

inline void CheckOp(OpCase c) {
  c.forward();
  c.backward();
  CheckAutograd(c);
  CheckCentralDifferences(c);
}

}  // namespace retort::ops::test
