// An op: cap * tanh(x / cap), which keeps values between -cap and cap.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <span>

#include "retort/sdk/op.h"

namespace {

// [op.begin]
using retort::sdk::Call;
using retort::sdk::Failure;
using retort::sdk::Matrix;
using retort::sdk::OpArgs;
using retort::sdk::OpPlan;
using retort::sdk::TensorSpec;

class SoftCap {
 public:
  // Each row alone: chunks and cached decoding need nothing more.
  static constexpr uint32_t kFlags = RETORT_OP_ROWWISE | RETORT_OP_RECOMPUTE_OK;

  explicit SoftCap(const retort::sdk::Config& config) : cap_(config.Double("cap")) {}

  // One output like the input; backward reads it (bit 0 of backward_out).
  OpPlan Infer(std::span<const TensorSpec> in) const {
    if (in.size() != 1) throw Failure(RETORT_INVALID_ARGUMENT, "soft_cap takes one input");
    return {.out = {in[0]}, .backward_out = 1};
  }

  // T is float, and double when the host checks the derivatives.
  template <class T>
  void Forward(const Call&, const OpArgs<T>& args) const {
    const Matrix<const T> x = args.in(0);
    const Matrix<T> y = args.out(0);
    for (int64_t r = 0; r < x.rows; ++r) {
      for (int64_t c = 0; c < x.cols; ++c)
        y[r][c] = static_cast<T>(cap_ * std::tanh(x[r][c] / cap_));
    }
  }

  template <class T>
  void Backward(const Call&, const OpArgs<T>& args) const {
    if (!args.wants(0)) return;
    const Matrix<T> y = args.out(0), dx = args.d_in(0);
    const Matrix<const T> dy = args.d_out(0);
    for (int64_t r = 0; r < y.rows; ++r) {
      for (int64_t c = 0; c < y.cols; ++c) {
        const double tanh = y[r][c] / cap_;
        dx[r][c] = static_cast<T>(dy[r][c] * (1 - tanh * tanh));
      }
    }
  }

 private:
  double cap_;
};

RETORT_OP("soft_cap", SoftCap, "keeps values between -cap and cap", R"({
  "type": "object",
  "properties": {"cap": {"type": "number", "minimum": 0.001, "default": 30}}
})");
// [op.end]

}  // namespace
