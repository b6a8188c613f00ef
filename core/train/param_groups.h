// Params by the patterns of their names: which are trained, which share a learning rate, which
// decay. Patterns are ECMAScript regexes, searched in the name.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/engine/engine.h"
#include "core/graph/graph.h"

namespace retort::train {

// The groups that an optimizer sees (retort_param_info.group): 2 for each entry of
// TrainerOptions.groups, after the 2 of params without an entry: those that decay, those that
// don't.
struct ParamGroups {
  std::vector<uint32_t> of_param;    // by index in the graph
  std::vector<double> lr_scale;      // of each group: factor of the step's learning rate
  std::vector<double> weight_decay;  // of each group
};

inline constexpr uint32_t kDecayGroup = 0, kNoDecayGroup = 1;

// A param belongs to the first entry whose pattern its name matches. It decays unless its
// lower-case name matches one of `no_decay` (empty: transformers' list of norms and biases), its
// family says so, or it is the entry's own weight_decay, which holds for all of the entry.
// INVALID_ARGUMENT: a pattern that isn't a regex or that matches nothing that is trained.
Result<ParamGroups> AssignGroups(const graph::Graph& graph, const engine::TrainerOptions& options);

// Marks as RETORT_PARAM_FROZEN what is not to be trained: what matches no pattern of `trainable`
// (empty: all do) or one of `frozen`. Of a graph with adapters their params alone count.
// INVALID_ARGUMENT: as above, or nothing is left to train.
Status FreezeParams(graph::Graph& graph, std::span<const std::string> trainable,
                    std::span<const std::string> frozen);

}  // namespace retort::train
