// What a pass keeps about its layers of experts, beside the buffers of its plan.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "core/graph/graph.h"
#include "core/ops/moe.h"

namespace retort::engine {

// Elements per row of a moe node's buffers. Saved: gate and up of each assignment, in the order of
// the experts, then weights and ids of the routing. In inference the routing is scratch, too.
int64_t MoeSavedWidth(const graph::Node& node);
int64_t MoeScratchWidth(const graph::Graph& graph, const graph::Node& node, bool training);
int64_t MoeGradientScratchWidth(const graph::Graph& graph, const graph::Node& node);

// The load-balancing loss of all layers of a pass: as it is, and times the graph's coefficient.
struct RouterLoss {
  double value = 0, weighted = 0;
};

// Tallies of routing, node by node: running a node again replaces its own.
class MoeTallies {
 public:
  explicit MoeTallies(const graph::Graph& graph);
  bool empty() const { return layers_.empty(); }
  ops::MoeTally* Of(size_t node);
  // Adds up the layers; those with as many experts share one loss.
  void AddUp();
  // Of the sums.
  RouterLoss Loss() const;
  const ops::MoeTally& SumOf(const graph::Node& node) const;

 private:
  struct Layer {
    size_t node = 0, group = 0;
    ops::MoeTally tally = {};
  };
  struct Group {
    int64_t n_experts = 0;
    double aux_coef = 0;
    ops::MoeTally sum = {};
  };
  std::vector<Layer> layers_;
  std::vector<Group> groups_;
};

}  // namespace retort::engine
