// AdamW with decoupled weight decay, as torch.optim.AdamW:
//   m = b1*m + (1-b1)*g;  v = b2*v + (1-b2)*g^2;  p *= 1 - lr*decay
//   p -= lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
// Loshchilov and Hutter, "Decoupled weight decay regularization". State is f32.
// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "retort/kernels/optimizer.h"
#include "retort/sdk/optimizer.h"

namespace {

using retort::sdk::Call;
using retort::sdk::OptimizerSpec;
using retort::sdk::Update;

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "betas": {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1},
              "default": [0.9, 0.999], "description": "decay of the two moments"},
    "eps": {"type": "number", "minimum": 0, "default": 1e-8,
            "description": "added to the root of the second moment"},
    "weight_decay": {"type": "number", "minimum": 0, "default": 0,
                     "description": "decoupled; the host hands it back for each group of params"}
  }
})";

class AdamW {
 public:
  explicit AdamW(const retort::sdk::Config& config)
      : betas_(retort::sdk::BetasOf(config)), eps_(config.Double("eps")) {}

  OptimizerSpec Spec(const retort_param_info&) const {
    return {.states = {"exp_avg", "exp_avg_sq"}};
  }

  void StepAll(const Call& call, std::span<const Update> updates) {
    params_.clear();
    tensors_.clear();
    params_.reserve(updates.size());  // tensors_ points into it
    for (const Update& update : updates) Add(update);
    retort_adamw_list_f32(tensors_.data(), static_cast<int64_t>(tensors_.size()), call.n_threads());
  }

 private:
  void Add(const Update& update) {
    const std::span<float> param = update.param(), m = update.state(0), v = update.state(1);
    for (size_t size : {update.grad().size(), m.size(), v.size()}) {
      update.ExpectSize(size, param.size());
    }
    const auto step = static_cast<double>(update.step());
    params_.push_back({.learning_rate = update.learning_rate(),
                       .beta1 = betas_[0],
                       .beta2 = betas_[1],
                       .eps = eps_,
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

  std::array<double, 2> betas_;
  double eps_;
  std::vector<retort_adamw_params> params_;  // of the step at hand
  std::vector<retort_adamw_tensor_f32> tensors_;
};

RETORT_OPTIMIZER("adamw", AdamW, "AdamW: Adam with decoupled weight decay", kSchema);

}  // namespace
