// Muon (Jordan et al. 2024; Liu et al., arXiv 2502.16982), as torch.optim.Muon, of hidden matrices:
//   B = mu*B + (1-mu)*g;  u = (1-mu)*g + mu*B (Nesterov);  X = u / max(|u|, eps), wide side last
//   5 times: Y = X X^T;  X = a*X + (b*Y + c*Y^2) X;      p *= 1 - lr*decay;  p -= lr*k*X
// AdamW for the rest (embeddings, head, norms, biases). The products are f32; torch's are bf16.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "retort/kernels/elementwise.h"
#include "retort/kernels/gemm.h"
#include "retort/kernels/optimizer.h"
#include "retort/sdk/optimizer.h"

namespace {

using retort::sdk::Call;
using retort::sdk::Failure;
using retort::sdk::OptimizerSpec;
using retort::sdk::Update;

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "momentum": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.95,
                 "description": "decay of the momentum of matrices"},
    "nesterov": {"type": "boolean", "default": true, "description": "look ahead by one momentum"},
    "ns_steps": {"type": "integer", "minimum": 1, "maximum": 99, "default": 5,
                 "description": "Newton-Schulz iterations"},
    "ns_coefficients": {"type": "array", "items": {"type": "number"},
                        "default": [3.4445, -4.775, 2.0315], "description": "a, b, c of them"},
    "eps": {"type": "number", "minimum": 0, "default": 1e-7,
            "description": "least norm that a momentum is divided by"},
    "adjust": {"type": "string", "enum": ["match_rms_adamw", "original"],
               "default": "match_rms_adamw",
               "description": "rate of a matrix: by its longer side, or as torch's default"},
    "betas": {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1},
              "default": [0.9, 0.999], "description": "of AdamW, for what is no hidden matrix"},
    "adamw_eps": {"type": "number", "minimum": 0, "default": 1e-8, "description": "of AdamW"},
    "adamw_lr_scale": {"type": "number", "minimum": 0, "default": 1.0,
                       "description": "AdamW's learning rate as a part of the stage's"},
    "weight_decay": {"type": "number", "minimum": 0, "default": 0.1,
                     "description": "decoupled; the host hands it back for each group of params"}
  }
})";

constexpr uint32_t kHidden = RETORT_ROLE_MATRIX | RETORT_ROLE_EXPERT;
constexpr uint32_t kNotHidden = RETORT_ROLE_EMBEDDING | RETORT_ROLE_HEAD;

// A row of matrices; or anything else, AdamW's.
bool IsHiddenMatrix(const retort_param_info& info) {
  return info.ndim >= 2 && (info.roles & kHidden) != 0 && (info.roles & kNotHidden) == 0;
}

void Transpose(const float* from, int64_t rows, int64_t cols, float* to) {
  constexpr int64_t kTile = 32;  // of both fit the cache
  for (int64_t i0 = 0; i0 < rows; i0 += kTile) {
    for (int64_t j0 = 0; j0 < cols; j0 += kTile) {
      for (int64_t i = i0; i < std::min(rows, i0 + kTile); ++i) {
        for (int64_t j = j0; j < std::min(cols, j0 + kTile); ++j)
          to[j * rows + i] = from[i * cols + j];
      }
    }
  }
}

// y [n, n] = x x^T, x [n, k]: what lies on and below the diagonal blocks, and its mirror image.
void Gram(const float* x, int64_t n, int64_t k, float* y, int n_threads) {
  constexpr int64_t kBlock = 64;
  for (int64_t i = 0; i < n; i += kBlock) {
    const int64_t rows = std::min(kBlock, n - i);
    const retort_skinny_gemm_shape shape = {
        .m = rows, .o = i + rows, .i = k, .x_stride = 0, .w_stride = 0, .y_stride = n};
    retort_skinny_gemm_f32(&shape, x + i * k, x, nullptr, y + i * n, n_threads);
  }
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i + 1; j < n; ++j) y[i * n + j] = y[j * n + i];
  }
}

class Muon {
 public:
  explicit Muon(const retort::sdk::Config& config)
      : momentum_(config.Double("momentum")),
        eps_(config.Double("eps")),
        nesterov_(config.Bool("nesterov")),
        match_rms_(config.String("adjust") == "match_rms_adamw"),
        steps_(config.Int("ns_steps")),
        betas_(retort::sdk::BetasOf(config)),
        adamw_eps_(config.Double("adamw_eps")),
        adamw_lr_scale_(config.Double("adamw_lr_scale")) {
    if (momentum_ >= 1) throw Failure(RETORT_INVALID_ARGUMENT, "/momentum: must be below 1");
    if (config["ns_coefficients"].size() != 3) {
      throw Failure(RETORT_INVALID_ARGUMENT, "/ns_coefficients: must have 3 numbers");
    }
    for (size_t i = 0; i < 3; ++i) coefficients_[i] = config["ns_coefficients"].at(i).AsDouble();
  }

  OptimizerSpec Spec(const retort_param_info& info) const {
    if (!IsHiddenMatrix(info)) return {.states = {"exp_avg", "exp_avg_sq"}};
    return {.grain = RETORT_GRAIN_WHOLE, .states = {"momentum_buffer"}};
  }

  void StepAll(const Call& call, std::span<const Update> updates) {
    params_.clear();
    tensors_.clear();
    params_.reserve(updates.size());  // tensors_ points into it
    for (const Update& update : updates) {
      update.ExpectSize(update.grad().size(), update.param().size());
      IsHiddenMatrix(update.info()) ? StepMatrices(call, update) : AddToAdamW(update);
    }
    retort_adamw_list_f32(tensors_.data(), static_cast<int64_t>(tensors_.size()), call.n_threads());
  }

 private:
  void StepMatrices(const Call& call, const Update& update) {
    const int64_t* shape = update.info().shape + update.info().ndim - 2;
    const int64_t rows = shape[0], cols = shape[1];
    const std::span<float> p = update.param(), g = update.grad(), m = update.state(0);
    update.ExpectSize(m.size(), p.size());
    MoveMomentum(call, update);
    const double rate = update.learning_rate();
    const auto keep = static_cast<float>(1 - rate * update.weight_decay());
    const auto step = static_cast<float>(rate * Adjust(rows, cols));
    for (size_t first = 0; first < p.size(); first += static_cast<size_t>(rows * cols)) {
      Orthogonalize(call, g.data() + first, rows, cols);
      retort_scale_f32(p.data() + first, keep, p.data() + first, rows * cols, call.n_threads());
      retort_axpy_f32(g.data() + first, -step, p.data() + first, rows * cols, call.n_threads());
    }
  }

  double Adjust(int64_t rows, int64_t cols) const {
    const auto r = static_cast<double>(rows), c = static_cast<double>(cols);
    return match_rms_ ? 0.2 * std::sqrt(std::max(r, c)) : std::sqrt(std::max(1.0, r / c));
  }

  // The momentum with the new gradient in it; what is to be made orthogonal replaces the gradient.
  // Both are linear, as SGD is.
  void MoveMomentum(const Call& call, const Update& update) const {
    const std::span<float> g = update.grad(), m = update.state(0);
    const auto n = static_cast<int64_t>(g.size());
    const int threads = call.n_threads();
    const double scale = update.grad_scale();
    retort_scale_f32(m.data(), momentum_, m.data(), n, threads);
    retort_axpy_f32(g.data(), (1 - momentum_) * scale, m.data(), n, threads);
    const double own = nesterov_ ? (1 - momentum_) * scale : 0;
    retort_scale_f32(g.data(), own, g.data(), n, threads);
    retort_axpy_f32(m.data(), nesterov_ ? momentum_ : 1, g.data(), n, threads);
  }

  // x [rows, cols] in place, by Newton-Schulz iterations on the side that is not longer.
  void Orthogonalize(const Call& call, float* x, int64_t rows, int64_t cols) {
    const int64_t n = std::min(rows, cols), k = std::max(rows, cols);
    const auto side = static_cast<size_t>(n), all = static_cast<size_t>(n * k);
    const int threads = call.n_threads();
    for (std::vector<float>* buffer : {&wide_, &tall_})
      buffer->resize(std::max(buffer->size(), all));
    for (std::vector<float>* buffer : {&y_, &poly_}) {
      buffer->resize(std::max(buffer->size(), side * side));
    }
    float *const wide = wide_.data(), *const tall = tall_.data();
    float *const y = y_.data(), *const poly = poly_.data();
    const double norm = std::sqrt(retort_sum_squares_f32(x, n * k, threads));
    retort_scale_f32(x, 1 / std::max(norm, eps_), x, n * k, threads);
    if (rows > cols) {
      Transpose(x, rows, cols, wide);
    } else {
      std::copy_n(x, all, wide);
    }
    const auto [a, b, c] = coefficients_;
    for (int64_t s = 0; s < steps_; ++s) {
      Gram(wide, n, k, y, threads);
      Gram(y, n, n, poly, threads);  // y is symmetric
      retort_scale_f32(poly, c, poly, n * n, threads);
      retort_axpy_f32(y, b, poly, n * n, threads);
      for (int64_t i = 0; i < n; ++i) poly[i * n + i] += static_cast<float>(a);
      Transpose(wide, n, k, tall);
      const retort_skinny_gemm_shape shape = {
          .m = n, .o = k, .i = n, .x_stride = 0, .w_stride = 0, .y_stride = 0};
      retort_skinny_gemm_f32(&shape, poly, tall, nullptr, wide, threads);
    }
    if (rows > cols) {
      Transpose(wide, n, k, x);
    } else {
      std::copy_n(wide, all, x);
    }
  }

  void AddToAdamW(const Update& update) {
    const std::span<float> param = update.param(), m = update.state(0), v = update.state(1);
    for (size_t size : {m.size(), v.size()}) update.ExpectSize(size, param.size());
    const auto step = static_cast<double>(update.step());
    params_.push_back({.learning_rate = update.learning_rate() * adamw_lr_scale_,
                       .beta1 = betas_[0],
                       .beta2 = betas_[1],
                       .eps = adamw_eps_,
                       .weight_decay = update.weight_decay(),
                       .bias_correction1 = 1 - std::pow(betas_[0], step),
                       .bias_correction2 = 1 - std::pow(betas_[1], step),
                       .grad_scale = update.grad_scale()});
    tensors_.push_back({.p = param.data(),
                        .grad = update.grad().data(),
                        .m = m.data(),
                        .v = v.data(),
                        .n = static_cast<int64_t>(param.size()),
                        .params = &params_.back()});
  }

  double momentum_, eps_;
  bool nesterov_, match_rms_;
  int64_t steps_;
  std::array<double, 3> coefficients_{};
  std::array<double, 2> betas_;
  double adamw_eps_, adamw_lr_scale_;
  std::vector<float> wide_, tall_, y_, poly_;  // room for the largest matrix so far
  std::vector<retort_adamw_params> params_;    // of the step at hand
  std::vector<retort_adamw_tensor_f32> tensors_;
};

RETORT_OPTIMIZER("muon", Muon, "Muon for hidden matrices, AdamW for the rest", kSchema);

}  // namespace
