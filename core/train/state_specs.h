// What an optimizer keeps for each param, as its plugin declares it: without LibTorch and before
// any weight is there, so that `retort plan` can ask. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/plugin_call.h"
#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/engine/engine.h"
#include "core/graph/graph.h"

namespace retort::train {

// Of one param. Checked: shapes, dtypes and init rules make sense.
struct DeclaredStates {
  const retort_optimizer_spec* spec = nullptr;  // the plugin's memory
  bool elementwise = false;                     // the plugin sees param and gradient flat
  std::vector<TensorView> views = {};           // without data
  std::vector<std::string> names = {};
};

// Asks the plugin about the param that `info` describes.
Result<DeclaredStates> DeclareStates(const engine::Optimizer& optimizer, PluginCall& call,
                                     const retort_param_info& info);

const retort_state_spec& StateAt(const retort_optimizer_spec& spec, uint32_t index);
// Bytes that a state takes in the memory of all.
int64_t PlacedBytes(const TensorView& state);

// Of the states of all params that training (of one adapter, or -1: of the base) changes.
Result<int64_t> StateBytes(const engine::Optimizer& optimizer, const graph::Graph& graph,
                           int32_t adapter);

}  // namespace retort::train
