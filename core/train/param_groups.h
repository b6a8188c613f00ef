// Which params weight decay touches: group 0 decays, group 1 doesn't.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/graph/graph.h"

namespace retort::train {

inline constexpr uint32_t kDecayGroup = 0, kNoDecayGroup = 1, kNumGroups = 2;

// The group of each param of the graph. A param is in the no-decay group if its lower-case name
// matches one of `no_decay` (ECMAScript regexes, searched; empty: transformers' list of norms and
// biases) or its family says so. A pattern that isn't a regex: INVALID_ARGUMENT.
Result<std::vector<uint32_t>> AssignGroups(const graph::Graph& graph,
                                           std::span<const std::string> no_decay);

}  // namespace retort::train
