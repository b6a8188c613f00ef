// Linear nodes that may run as one product: they read the same value and their weights lie one
// below the other. Stores of params and of gradients place them so; names of params don't change.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "core/graph/graph.h"

namespace retort::graph {

struct MergeGroup {
  std::vector<int32_t> nodes;  // in graph order, two or more; the first one runs the product
};

// Groups whose outputs may be columns of one matrix: every output has one reader, and that reads
// rows with a stride. All weights have one number of columns and one set of flags and are used
// nowhere else; all nodes have a bias, or none. A node is in at most one group.
std::vector<MergeGroup> MergeGroups(const Graph& graph);

// All params in the order in which a store lays them out: as in graph.params, but the weights of a
// group side by side, and so its biases. Their sizes are multiples of 64 bytes (the last one's
// aside), so that aligning each leaves no gap.
std::vector<int32_t> ParamOrder(const Graph& graph);

}  // namespace retort::graph
