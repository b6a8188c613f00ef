// Adafactor (Shazeer and Stern, arXiv 1804.04235) without momentum, as transformers' Adafactor:
//   b = 1 - t^decay_rate;  R, C = b*{R, C} + (1-b) * row, column means of g^2 + eps[0]
//   u = g / sqrt(R C / mean R);  u /= max(1, rms(u) / clip_threshold);  p -= lr*(u + decay*p)
// A param of 1 dimension keeps the whole second moment. One of 3 is a row of matrices.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "retort/kernels/optimizer.h"
#include "retort/sdk/optimizer.h"

namespace {

using retort::sdk::Call;
using retort::sdk::Failure;
using retort::sdk::OptimizerSpec;
using retort::sdk::StateSpec;
using retort::sdk::Update;

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "eps": {"type": "array", "items": {"type": "number", "minimum": 0}, "default": [1e-30, 1e-3],
            "description": "added to squared gradients; least size that scale_parameter sees"},
    "clip_threshold": {"type": "number", "minimum": 1e-6, "default": 1.0,
                       "description": "the most that the root mean square of an update may be"},
    "decay_rate": {"type": "number", "maximum": 0, "default": -0.8,
                   "description": "the second moment's decay at step t is 1 - t^decay_rate"},
    "scale_parameter": {"type": "boolean", "default": false,
                        "description": "multiply the rate by the param's root mean square"},
    "relative_step": {"type": "boolean", "default": false,
                      "description": "rate min(0.01, 1/sqrt(t)) instead of learning_rate"},
    "warmup_init": {"type": "boolean", "default": false,
                    "description": "relative_step from 1e-6 * t instead of 0.01"},
    "weight_decay": {"type": "number", "minimum": 0, "default": 0,
                     "description": "decoupled; the host hands it back for each group of params"}
  }
})";

class Adafactor {
 public:
  explicit Adafactor(const retort::sdk::Config& config)
      : clip_threshold_(config.Double("clip_threshold")),
        decay_rate_(config.Double("decay_rate")),
        scale_parameter_(config.Bool("scale_parameter")),
        relative_step_(config.Bool("relative_step")),
        warmup_init_(config.Bool("warmup_init")) {
    if (config["eps"].size() != 2) {
      throw Failure(RETORT_INVALID_ARGUMENT, "/eps: must have 2 numbers");
    }
    for (size_t i = 0; i < 2; ++i) eps_[i] = config["eps"].at(i).AsDouble();
    if (warmup_init_ && !relative_step_) {
      throw Failure(RETORT_INVALID_ARGUMENT, "/warmup_init: needs relative_step");
    }
  }

  OptimizerSpec Spec(const retort_param_info& info) const {
    if (info.ndim < 2) return {.grain = RETORT_GRAIN_WHOLE, .states = {"exp_avg_sq"}};
    const std::span<const int64_t> shape(info.shape, info.ndim);
    std::vector<int64_t> rows(shape.begin(), shape.end() - 1), cols(shape.begin(), shape.end() - 2);
    cols.push_back(shape.back());
    return {.grain = RETORT_GRAIN_WHOLE,
            .states = {StateSpec::Explicit("exp_avg_sq_row", std::move(rows)),
                       StateSpec::Explicit("exp_avg_sq_col", std::move(cols))}};
  }

  void Step(const Call& call, const Update& update) {
    update.ExpectSize(update.grad().size(), update.param().size());
    if (update.param().empty()) return;
    if (update.info().ndim < 2) {
      StepVector(call, update);
    } else {
      StepMatrices(call, update);
    }
  }

 private:
  double Decay(const Update& update) const {
    return 1 - std::pow(static_cast<double>(update.step()), decay_rate_);
  }

  double Rate(const Call& call, const Update& update) const {
    double rate = update.learning_rate();
    if (relative_step_) {
      const auto step = static_cast<double>(update.step());
      rate = std::min(warmup_init_ ? 1e-6 * step : 1e-2, 1 / std::sqrt(step));
    }
    if (!scale_parameter_) return rate;
    const std::span<float> p = update.param();
    const auto n = static_cast<int64_t>(p.size());
    const double squares = retort_sum_squares_f32(p.data(), n, call.n_threads());
    return rate * std::max(eps_[1], std::sqrt(squares / static_cast<double>(n)));
  }

  // By what an update with this sum of squares is divided.
  double Clip(double squares, size_t n) const {
    return std::max(1.0, std::sqrt(squares / static_cast<double>(n)) / clip_threshold_);
  }

  void StepVector(const Call& call, const Update& update) const {
    const std::span<float> p = update.param(), g = update.grad(), v = update.state(0);
    update.ExpectSize(v.size(), p.size());
    const double rate = Rate(call, update), scale = update.grad_scale();
    const auto beta = static_cast<float>(Decay(update)), rest = 1 - beta;
    double squares = 0;
    for (size_t i = 0; i < p.size(); ++i) {
      g[i] *= static_cast<float>(scale);
      v[i] = beta * v[i] + rest * (g[i] * g[i] + static_cast<float>(eps_[0]));
      g[i] /= std::sqrt(v[i]);
      squares += double{g[i]} * double{g[i]};
    }
    const auto keep = static_cast<float>(1 - rate * update.weight_decay());
    const auto factor = static_cast<float>(rate / Clip(squares, p.size()));
    for (size_t i = 0; i < p.size(); ++i) p[i] = p[i] * keep - factor * g[i];
  }

  // The root mean square of an update is that of the whole param, so it takes two passes.
  void StepMatrices(const Call& call, const Update& update) const {
    const int64_t* shape = update.info().shape + update.info().ndim - 2;
    const int64_t rows = shape[0], cols = shape[1];
    const std::span<float> p = update.param(), g = update.grad();
    const int64_t count = static_cast<int64_t>(p.size()) / (rows * cols);
    update.ExpectSize(update.state(0).size(), static_cast<size_t>(count * rows));
    update.ExpectSize(update.state(1).size(), static_cast<size_t>(count * cols));
    const double rate = Rate(call, update);
    const std::span<float> by_row = call.Scratch<float>(static_cast<size_t>(count * rows));
    const std::span<float> by_col = call.Scratch<float>(static_cast<size_t>(count * cols));
    double squares = 0;
    for (int64_t k = 0; k < count; ++k) {
      const retort_factored_matrix matrix = {rows, cols, g.data() + k * rows * cols};
      float* const row_factors = by_row.data() + k * rows;
      float* const col_factors = by_col.data() + k * cols;
      retort_mean_squares_f32(&matrix, row_factors, col_factors, call.n_threads());
      Factor(update, 0, k * rows, {row_factors, static_cast<size_t>(rows)}, true);
      Factor(update, 1, k * cols, {col_factors, static_cast<size_t>(cols)}, false);
      squares += retort_factored_squares_f32(&matrix, row_factors, col_factors, call.n_threads());
    }
    // The gradient's own scale is in the row factors: the squares are those of the update.
    for (int64_t k = 0; k < count; ++k) {
      const retort_factored_matrix matrix = {rows, cols, g.data() + k * rows * cols};
      retort_factored_update_f32(&matrix, by_row.data() + k * rows, by_col.data() + k * cols,
                                 1 - rate * update.weight_decay(), rate / Clip(squares, p.size()),
                                 p.data() + k * rows * cols, call.n_threads());
    }
  }

  // Mean squares, of unscaled gradients, join the state; then they become the factors of an
  // update: sqrt(mean R / R) * grad_scale of rows, 1 / sqrt(C) of columns.
  void Factor(const Update& update, size_t state, int64_t first, std::span<float> means,
              bool is_row) const {
    float* const kept = update.state(state).data() + first;
    const double beta = Decay(update), scale = update.grad_scale();
    double sum = 0;
    for (size_t i = 0; i < means.size(); ++i) {
      const double mean = double{means[i]} * scale * scale + eps_[0];
      kept[i] = static_cast<float>(beta * double{kept[i]} + (1 - beta) * mean);
      sum += double{kept[i]};
    }
    const double top = is_row ? sum / static_cast<double>(means.size()) : 1;
    for (size_t i = 0; i < means.size(); ++i) {
      means[i] = static_cast<float>(std::sqrt(top / double{kept[i]}) * (is_row ? scale : 1));
    }
  }

  std::array<double, 2> eps_{};
  double clip_threshold_, decay_rate_;
  bool scale_parameter_, relative_step_, warmup_init_;
};

RETORT_OPTIMIZER("adafactor", Adafactor, "Adafactor: a second moment by rows and columns", kSchema);

}  // namespace
