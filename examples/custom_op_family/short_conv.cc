// A causal depthwise convolution over the tokens of a sequence, as hybrid models have it beside
// attention (LFM2, Mamba): for each channel c, with K taps,
//   y[t,c] = bias[c] + sum_j weight[c,j] * x[t - (K-1) + j, c]        x before the sequence: 0
// which is torch's Conv1d(C, C, K, groups=C, padding=K-1) cut to T. State: the last K-1 rows of x.
// Letters: T rows, C channels, K taps.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "retort/sdk/op.h"

namespace {

// [op.begin]
using retort::sdk::Call;
using retort::sdk::Failure;
using retort::sdk::IsType;
using retort::sdk::Matrix;
using retort::sdk::OpArgs;
using retort::sdk::OpPlan;
using retort::sdk::TensorSpec;

constexpr const char* kSchema = R"({
  "type": "object",
  "required": ["kernel_size"],
  "properties": {
    "kernel_size": {"type": "integer", "minimum": 2, "maximum": 16,
                    "description": "taps: a token sees itself and those before it"}
  }
})";

class ShortConv {
 public:
  explicit ShortConv(const retort::sdk::Config& config) : taps_(config.Int("kernel_size")) {}

  // in: x [T,C], weight [C,1,K] or [C,K], optionally bias [C].
  OpPlan Infer(std::span<const TensorSpec> in) const {
    for (const TensorSpec& t : in) {
      if (IsType<float>(t.dtype) || IsType<double>(t.dtype)) continue;
      throw Failure(RETORT_UNIMPLEMENTED, "short_conv runs in f32 and f64");
    }
    if (in.size() != 2 && in.size() != 3) {
      throw Failure(RETORT_INVALID_ARGUMENT,
                    "short_conv takes x, weight and optionally bias, not " +
                        std::to_string(in.size()) + " inputs");
    }
    const int64_t width = in[0].shape.size() == 2 ? in[0].shape[1] : 0;
    const std::vector<int64_t>& w = in[1].shape;
    const bool fits =
        w == std::vector<int64_t>{width, 1, taps_} || w == std::vector<int64_t>{width, taps_};
    if (!fits) {
      throw Failure(RETORT_INVALID_ARGUMENT, "short_conv: the weight must be [" +
                                                 std::to_string(width) + ", 1, " +
                                                 std::to_string(taps_) + "], channels and taps");
    }
    if (in.size() == 3 && in[2].shape != std::vector<int64_t>{width}) {
      throw Failure(RETORT_INVALID_ARGUMENT,
                    "short_conv: the bias must have one element a channel");
    }
    return {.out = {in[0]},
            .state = {{in[0].dtype, {taps_ - 1, width}}},
            .backward_in = 3};  // x and weight, not the bias
  }

  template <class T>
  void Forward(const Call& call, const OpArgs<T>& args) const {
    Convolve(call, args, /*stateful=*/false);
  }

  // The same, but the rows before a sequence's first are in its state.
  template <class T>
  void Decode(const Call& call, const OpArgs<T>& args) const {
    Convolve(call, args, /*stateful=*/true);
  }

  template <class T>
  void Backward(const Call& call, const OpArgs<T>& args) const {
    const Matrix<const T> dy = args.d_out(0), x = args.in(0);
    const int64_t width = dy.cols;
    const std::span<T> w_KC = TapsFirst(call, args.param(1), width);
    const auto dw_KC = call.Scratch<double>(static_cast<size_t>(taps_ * width));
    std::fill(dw_KC.begin(), dw_KC.end(), 0.0);
    if (args.wants(0)) Clear(args.d_in(0));
    for (size_t s = 0; s < args.n_sequences(); ++s) {
      const int64_t first = args.first_row(s), end = args.first_row(s + 1);
      for (int64_t t = first; t < end; ++t) {
        for (int64_t j = 0; j < taps_; ++j) {
          const int64_t from = t - (taps_ - 1) + j;
          if (from < first) continue;
          const T* w = w_KC.data() + j * width;
          double* dw = dw_KC.data() + j * width;
          for (int64_t c = 0; c < width; ++c) dw[c] += double{dy[t][c]} * double{x[from][c]};
          if (!args.wants(0)) continue;
          T* dx = args.d_in(0)[from];
          for (int64_t c = 0; c < width; ++c) dx[c] += w[c] * dy[t][c];
        }
      }
    }
    if (args.wants(1)) ChannelsFirst(dw_KC, args.d_param(1), width);
    if (args.raw().n_in == 3 && args.wants(2)) SumRows(dy, args.d_param(2));
  }

 private:
  template <class T>
  void Convolve(const Call& call, const OpArgs<T>& args, bool stateful) const {
    const Matrix<const T> x = args.in(0);
    const Matrix<T> y = args.out(0);
    const std::span<T> w_KC = TapsFirst(call, args.param(1), x.cols);
    const std::span<T> zero = call.Scratch<T>(static_cast<size_t>(x.cols));
    std::fill(zero.begin(), zero.end(), T{0});
    const T* bias = args.raw().n_in == 3 ? args.param(2).data() : zero.data();
    for (size_t s = 0; s < args.n_sequences(); ++s) {
      const int64_t first = args.first_row(s), end = args.first_row(s + 1);
      T* state = stateful ? args.state(0, s).data() : nullptr;
      // Row i of the sequence, negative: before it.
      const auto row = [&](int64_t i) -> const T* {
        if (i >= 0) return x[first + i];
        return state == nullptr ? zero.data() : state + (taps_ - 1 + i) * x.cols;
      };
      for (int64_t t = first; t < end; ++t) {
        std::copy_n(bias, x.cols, y[t]);
        for (int64_t j = 0; j < taps_; ++j) {
          const T* from = row(t - first - (taps_ - 1) + j);
          const T* w = w_KC.data() + j * x.cols;
          for (int64_t c = 0; c < x.cols; ++c) y[t][c] += w[c] * from[c];
        }
      }
      if (state == nullptr) continue;
      for (int64_t i = 0; i < taps_ - 1; ++i) {  // oldest first: reads stay ahead of writes
        std::copy_n(row(end - first - (taps_ - 1) + i), x.cols, state + i * x.cols);
      }
    }
  }

  // The weight as [K,C], so that the inner loops run over adjacent channels.
  template <class T>
  std::span<T> TapsFirst(const Call& call, std::span<const T> w_CK, int64_t width) const {
    const std::span<T> w_KC = call.Scratch<T>(w_CK.size());
    for (int64_t c = 0; c < width; ++c) {
      for (int64_t j = 0; j < taps_; ++j) {
        w_KC[static_cast<size_t>(j * width + c)] = w_CK[static_cast<size_t>(c * taps_ + j)];
      }
    }
    return w_KC;
  }
  template <class T>
  void ChannelsFirst(std::span<const double> from_KC, std::span<T> to_CK, int64_t width) const {
    for (int64_t c = 0; c < width; ++c) {
      for (int64_t j = 0; j < taps_; ++j) {
        to_CK[static_cast<size_t>(c * taps_ + j)] =
            static_cast<T>(from_KC[static_cast<size_t>(j * width + c)]);
      }
    }
  }
  template <class T>
  static void Clear(const Matrix<T>& m) {
    for (int64_t t = 0; t < m.rows; ++t) std::fill_n(m[t], m.cols, T{0});
  }
  template <class T>
  static void SumRows(const Matrix<const T>& rows, std::span<T> sum) {
    for (int64_t c = 0; c < rows.cols; ++c) {
      double total = 0;
      for (int64_t t = 0; t < rows.rows; ++t) total += double{rows[t][c]};
      sum[static_cast<size_t>(c)] = static_cast<T>(total);
    }
  }

  int64_t taps_;
};

RETORT_OP("short_conv", ShortConv, "causal depthwise convolution over tokens", kSchema);
// [op.end]

}  // namespace
