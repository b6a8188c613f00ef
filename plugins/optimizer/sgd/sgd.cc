// Stochastic gradient descent with momentum, as torch.optim.SGD:
//   g += decay*p;  m = momentum*m + (1-dampening)*g (at first: g);  p -= lr*m
// Nesterov's way g + momentum*m takes the place of m.
// With `decoupled_weight_decay` p *= 1 - lr*decay instead of the first line.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <span>
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
    "momentum": {"type": "number", "minimum": 0, "default": 0,
                 "description": "of earlier gradients; 0: none, and no state"},
    "dampening": {"type": "number", "minimum": 0, "maximum": 1, "default": 0,
                  "description": "part of a gradient that the momentum leaves out"},
    "nesterov": {"type": "boolean", "default": false,
                 "description": "look ahead by one momentum; without dampening"},
    "decoupled_weight_decay": {"type": "boolean", "default": false,
                 "description": "shrink params, instead of adding them to the gradient"},
    "weight_decay": {"type": "number", "minimum": 0, "default": 0,
                     "description": "the host hands it back for each group of params"}
  }
})";

class Sgd {
 public:
  explicit Sgd(const retort::sdk::Config& config)
      : momentum_(config.Double("momentum")),
        dampening_(config.Double("dampening")),
        nesterov_(config.Bool("nesterov")),
        decoupled_(config.Bool("decoupled_weight_decay")) {
    if (nesterov_ && (momentum_ == 0 || dampening_ != 0)) {
      throw Failure(RETORT_INVALID_ARGUMENT,
                    "/nesterov: needs a momentum above 0 and a dampening of 0");
    }
  }

  OptimizerSpec Spec(const retort_param_info&) const {
    if (momentum_ == 0) return {};
    return {.states = {"momentum_buffer"}};
  }

  void StepAll(const Call& call, std::span<const Update> updates) {
    params_.clear();
    tensors_.clear();
    params_.reserve(updates.size());  // tensors_ points into it
    for (const Update& update : updates) {
      const std::span<float> param = update.param();
      update.ExpectSize(update.grad().size(), param.size());
      float* m = nullptr;
      if (momentum_ != 0) {
        update.ExpectSize(update.state(0).size(), param.size());
        m = update.state(0).data();
      }
      params_.push_back(ParamsOf(update));
      tensors_.push_back({.p = param.data(),
                          .grad = update.grad().data(),
                          .m = m,
                          .n = static_cast<int64_t>(param.size()),
                          .params = &params_.back()});
    }
    retort_sgd_list_f32(tensors_.data(), static_cast<int64_t>(tensors_.size()), call.n_threads());
  }

 private:
  retort_sgd_params ParamsOf(const Update& update) const {
    const double rate = update.learning_rate(), decay = update.weight_decay();
    const bool first = update.step() == 1;
    const bool plain = momentum_ == 0;
    return {.learning_rate = rate,
            .grad_scale = update.grad_scale(),
            .keep = decoupled_ ? 1 - rate * decay : 1,
            .l2 = decoupled_ ? 0 : decay,
            .m_keep = first ? 0 : momentum_,
            .m_grad = first ? 1 : 1 - dampening_,
            .u_grad = plain || nesterov_ ? 1.0 : 0.0,
            .u_m = nesterov_ ? momentum_ : 1};
  }

  double momentum_, dampening_;
  bool nesterov_, decoupled_;
  std::vector<retort_sgd_params> params_;  // of the step at hand
  std::vector<retort_sgd_tensor_f32> tensors_;
};

RETORT_OPTIMIZER("sgd", Sgd, "SGD with momentum, dampening and Nesterov's look-ahead", kSchema);

}  // namespace
