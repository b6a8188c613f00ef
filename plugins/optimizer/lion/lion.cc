// Lion, "evolved sign momentum" (Chen et al., arXiv 2302.06675, algorithm 2):
//   c = b1*m + (1-b1)*g;  p *= 1 - lr*decay;  p -= lr * sign(c);  m = b2*m + (1-b2)*g
// One f32 state. A step's size is the learning rate, whatever the gradient's.
// SPDX-License-Identifier: Apache-2.0
#include <array>
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
              "default": [0.9, 0.99],
              "description": "of the momentum in a step, and of the momentum that is kept"},
    "weight_decay": {"type": "number", "minimum": 0, "default": 0,
                     "description": "decoupled; the host hands it back for each group of params"}
  }
})";

class Lion {
 public:
  explicit Lion(const retort::sdk::Config& config) : betas_(retort::sdk::BetasOf(config)) {}

  OptimizerSpec Spec(const retort_param_info&) const { return {.states = {"exp_avg"}}; }

  void StepAll(const Call& call, std::span<const Update> updates) {
    params_.clear();
    tensors_.clear();
    params_.reserve(updates.size());  // tensors_ points into it
    for (const Update& update : updates) {
      const std::span<float> param = update.param(), m = update.state(0);
      for (size_t size : {update.grad().size(), m.size()}) update.ExpectSize(size, param.size());
      params_.push_back({.learning_rate = update.learning_rate(),
                         .beta1 = betas_[0],
                         .beta2 = betas_[1],
                         .weight_decay = update.weight_decay(),
                         .grad_scale = update.grad_scale()});
      tensors_.push_back({.p = param.data(),
                          .grad = update.grad().data(),
                          .m = m.data(),
                          .n = static_cast<int64_t>(param.size()),
                          .params = &params_.back()});
    }
    retort_lion_list_f32(tensors_.data(), static_cast<int64_t>(tensors_.size()), call.n_threads());
  }

 private:
  std::array<double, 2> betas_;
  std::vector<retort_lion_params> params_;  // of the step at hand
  std::vector<retort_lion_tensor_f32> tensors_;
};

RETORT_OPTIMIZER("lion", Lion, "Lion: the sign of a momentum, one state", kSchema);

}  // namespace
