// The optimizer plugin and what the host keeps for it: state tensors as its spec declares them,
// and the argument arrays of a step, made once.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/plugin_call.h"
#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/engine/arena.h"
#include "core/engine/engine.h"
#include "core/engine/gradients.h"
#include "core/graph/graph.h"
#include "core/train/param_groups.h"
#include "core/train/state_specs.h"

namespace retort::train {

class OptimizerState {
 public:
  // Asks the plugin for the spec of every trained param, checks it, allocates and initialises.
  // Params and gradients outlive the object.
  static Result<std::unique_ptr<OptimizerState>> Make(const engine::Optimizer& optimizer,
                                                      const graph::Graph& graph,
                                                      std::span<const TensorView> params,
                                                      const engine::Gradients& grads,
                                                      ParamGroups groups);

  struct StepInputs {
    double learning_rate = 0;  // of params without a group of their own
    float grad_scale = 1;
    int64_t step = 0;  // from 0
  };
  Status Step(const StepInputs& inputs, const PluginCallSettings& settings);

  std::vector<engine::StateTensor> Views() const;  // "<param>.<state>"
  Result<std::string> SaveScalars();
  Status LoadScalars(std::string_view bytes);
  int64_t bytes() const;  // of all states

 private:
  // Everything about one param, at a fixed address: the ABI's structs point into it.
  struct Slot {
    std::string name;
    std::vector<int64_t> shape;
    retort_param_info info{};
    TensorView param, grad;
    DeclaredStates states;
    retort_tensor param_tensor{}, grad_tensor{};
    std::vector<retort_tensor> state_tensors;
    std::vector<retort_tensor*> state_pointers;
  };

  OptimizerState(const engine::Optimizer& optimizer, ParamGroups groups);
  Status AddSlot(const graph::Param& param, uint32_t group, const TensorView& weights,
                 const TensorView& grad);
  void PlaceAndInit();

  const bool one_by_one_;  // a call for each tensor: for measurements
  engine::Optimizer optimizer_;
  PluginCall call_;
  const ParamGroups groups_;
  std::vector<double> learning_rates_;  // of each group, of the step at hand
  engine::Arena arena_;
  std::deque<Slot> slots_;
  std::vector<retort_optimizer_tensor> tensors_;
};

}  // namespace retort::train
