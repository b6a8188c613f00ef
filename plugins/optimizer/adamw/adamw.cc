// AdamW with decoupled weight decay, as torch.optim.AdamW:
//   m = b1*m + (1-b1)*g;  v = b2*v + (1-b2)*g^2;  p *= 1 - lr*decay
//   p -= lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
// Loshchilov and Hutter, "Decoupled weight decay regularization". State is f32.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

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
  explicit AdamW(const retort::sdk::Config& config) : eps_(config.Double("eps")) {
    const retort::sdk::JsonValue betas = config["betas"];
    if (betas.size() != 2) {
      throw Failure(RETORT_INVALID_ARGUMENT,
                    "/betas: has " + std::to_string(betas.size()) + " numbers, must have 2");
    }
    beta1_ = Beta(betas.at(0));
    beta2_ = Beta(betas.at(1));
  }

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
    if (update.grad().size() != param.size() || m.size() != param.size() ||
        v.size() != param.size()) {
      throw Failure(RETORT_INVALID_ARGUMENT, std::string(update.info().name) +
                                                 ": gradient and state must have the param's size");
    }
    const auto step = static_cast<double>(update.step());
    params_.push_back({.learning_rate = update.learning_rate(),
                       .beta1 = beta1_,
                       .beta2 = beta2_,
                       .eps = eps_,
                       .weight_decay = update.weight_decay(),
                       .bias_correction1 = 1 - std::pow(beta1_, step),
                       .bias_correction2 = 1 - std::pow(beta2_, step),
                       .grad_scale = update.grad_scale()});
    tensors_.push_back({.p = param.data(),
                        .grad = update.grad().data(),
                        .m = m.data(),
                        .v = v.data(),
                        .n = static_cast<int64_t>(param.size()),
                        .params = &params_.back()});
  }
  static double Beta(const retort::sdk::JsonValue& value) {
    const double beta = value.AsDouble();
    if (beta >= 1) throw Failure(RETORT_INVALID_ARGUMENT, value.name() + ": must be below 1");
    return beta;
  }

  double eps_, beta1_ = 0, beta2_ = 0;
  std::vector<retort_adamw_params> params_;  // of the step at hand
  std::vector<retort_adamw_tensor_f32> tensors_;
};

RETORT_OPTIMIZER("adamw", AdamW, "AdamW: Adam with decoupled weight decay", kSchema);

}  // namespace
