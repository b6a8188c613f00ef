// xIELU (Huang and Schlag, "Deriving activation functions using integration", arXiv 2411.13010), a
// trainable activation, with the details of transformers' XIELUActivation:
//   p = softplus(alpha_p), n = beta + softplus(alpha_n)
//   y = p x^2 + beta x                          x > 0
//   y = n (expm1(min(x, eps)) - x) + beta x     else
// Letters: T rows, C width.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>

#include "retort/kernels/parallel.h"
#include "retort/sdk/op.h"

namespace {

using retort::sdk::Call;
using retort::sdk::Failure;
using retort::sdk::IsType;
using retort::sdk::Matrix;
using retort::sdk::OpArgs;
using retort::sdk::OpPlan;
using retort::sdk::TensorSpec;

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "beta": {"type": "number", "default": 0.5, "description": "slope at 0"},
    "eps": {"type": "number", "maximum": 0, "default": -1e-6,
            "description": "expm1 sees nothing above it"}
  }
})";

double Softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }
double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

struct Curve {
  double p = 0, n = 0, beta = 0, eps = 0;

  double At(double x) const {
    if (x > 0) return p * x * x + beta * x;
    return n * (std::expm1(std::min(x, eps)) - x) + beta * x;
  }
  double Slope(double x) const {
    if (x > 0) return 2 * p * x + beta;
    return n * ((x < eps ? std::exp(x) : 0.0) - 1) + beta;
  }
  // Of At by p and by n; one of them is 0.
  static double SlopeP(double x) { return x > 0 ? x * x : 0; }
  double SlopeN(double x) const { return x > 0 ? 0 : std::expm1(std::min(x, eps)) - x; }
};

// Rows in the thread pool; fn(row) must not throw.
template <class Fn>
void ForRows(int64_t rows, int n_threads, Fn& fn) {
  retort_parallel_for(
      rows, n_threads, [](void* context, int64_t row) { (*static_cast<Fn*>(context))(row); }, &fn);
}

class Xielu {
 public:
  static constexpr uint32_t kFlags = RETORT_OP_ROWWISE | RETORT_OP_RECOMPUTE_OK;

  explicit Xielu(const retort::sdk::Config& config)
      : beta_(config.Double("beta")), eps_(config.Double("eps")) {}

  OpPlan Infer(std::span<const TensorSpec> in) const {
    for (const TensorSpec& t : in) {
      if (IsType<float>(t.dtype) || IsType<double>(t.dtype)) continue;
      throw Failure(RETORT_UNIMPLEMENTED, "xielu runs in f32 and f64");
    }
    if (in.size() != 3) {
      throw Failure(RETORT_INVALID_ARGUMENT, "xielu takes x, alpha_p and alpha_n, not " +
                                                 std::to_string(in.size()) + " inputs");
    }
    const bool one = in[1].shape == std::vector<int64_t>{1} && in[2].shape == in[1].shape;
    if (in[0].shape.size() != 2 || !one) {
      throw Failure(RETORT_INVALID_ARGUMENT,
                    "xielu: x must be token rows, alpha_p and alpha_n weights of shape [1]");
    }
    return {.out = {in[0]}, .backward_in = 7};
  }

  template <class T>
  void Forward(const Call& call, const OpArgs<T>& args) const {
    const Curve curve = CurveOf(args);
    const Matrix<const T> x = args.in(0);
    const Matrix<T> y = args.out(0);
    auto row = [&](int64_t t) {
      for (int64_t c = 0; c < x.cols; ++c) y[t][c] = static_cast<T>(curve.At(x[t][c]));
    };
    ForRows(x.rows, call.n_threads(), row);
  }

  template <class T>
  void Backward(const Call& call, const OpArgs<T>& args) const {
    const Curve curve = CurveOf(args);
    const Matrix<const T> x = args.in(0), dy = args.d_out(0);
    const std::span<std::array<double, 2>> sums =
        call.Scratch<std::array<double, 2>>(static_cast<size_t>(x.rows));
    const Matrix<T> dx = args.wants(0) ? args.d_in(0) : Matrix<T>{};
    auto row = [&](int64_t t) {
      double sum_p = 0, sum_n = 0;
      for (int64_t c = 0; c < x.cols; ++c) {
        const double d = dy[t][c];
        sum_p += d * Curve::SlopeP(x[t][c]);
        sum_n += d * curve.SlopeN(x[t][c]);
        if (dx.data != nullptr) dx[t][c] = static_cast<T>(d * curve.Slope(x[t][c]));
      }
      sums[static_cast<size_t>(t)] = {sum_p, sum_n};
    };
    ForRows(x.rows, call.n_threads(), row);
    double total_p = 0, total_n = 0;  // in the order of the rows
    for (const auto& [sum_p, sum_n] : sums) total_p += sum_p, total_n += sum_n;
    if (args.wants(1)) {
      args.d_param(1)[0] = static_cast<T>(total_p * Sigmoid(args.param(1)[0]));
    }
    if (args.wants(2)) {
      args.d_param(2)[0] = static_cast<T>(total_n * Sigmoid(args.param(2)[0]));
    }
  }

 private:
  template <class T>
  Curve CurveOf(const OpArgs<T>& args) const {
    return {.p = Softplus(args.param(1)[0]),
            .n = beta_ + Softplus(args.param(2)[0]),
            .beta = beta_,
            .eps = eps_};
  }

  double beta_, eps_;
};

RETORT_OP("xielu", Xielu, "xIELU, the trainable activation of Apertus", kSchema);

}  // namespace
