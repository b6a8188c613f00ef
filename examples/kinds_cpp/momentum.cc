// An optimizer: stochastic gradient descent with momentum and decoupled weight decay.
// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <span>

#include "retort/sdk/optimizer.h"

namespace {

// [optimizer.begin]
using retort::sdk::Call;
using retort::sdk::OptimizerSpec;
using retort::sdk::Update;

class Momentum {
 public:
  explicit Momentum(const retort::sdk::Config& config) : momentum_(config.Double("momentum")) {}

  // One f32 tensor of the param's shape, starting at 0: the host allocates, shards and saves it.
  OptimizerSpec Spec(const retort_param_info&) const { return {.states = {"momentum_buffer"}}; }

  void Step(const Call&, const Update& update) {
    const std::span<float> p = update.param(), g = update.grad(), buffer = update.state(0);
    const double rate = update.learning_rate(), keep = 1 - rate * update.weight_decay();
    for (size_t i = 0; i < p.size(); ++i) {
      const double step = momentum_ * double{buffer[i]} + update.grad_scale() * double{g[i]};
      buffer[i] = static_cast<float>(step);
      p[i] = static_cast<float>(keep * double{p[i]} - rate * step);
    }
  }

 private:
  double momentum_;
};

RETORT_OPTIMIZER("momentum", Momentum, "gradient descent with momentum", R"({
  "type": "object",
  "properties": {
    "momentum": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.9},
    "weight_decay": {"type": "number", "minimum": 0, "default": 0,
                     "description": "decoupled; the host hands it back for each group of params"}
  }
})");
// [optimizer.end]

}  // namespace
