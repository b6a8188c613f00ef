// What the plan needs to know of layers of experts; apart from pass_moe.cc, which needs LibTorch.
// SPDX-License-Identifier: Apache-2.0
#include "core/engine/pass_moe.h"

namespace retort::engine {

using graph::Node;

namespace {

int64_t WidthOf(const graph::Graph& graph, const Node& node) {
  return graph.values[static_cast<size_t>(node.out)].width;
}

}  // namespace

int64_t MoeSavedWidth(const Node& node) { return node.moe.top_k * (2 * node.moe.hidden + 2); }

int64_t MoeScratchWidth(const graph::Graph& graph, const Node& node, bool training) {
  return ops::MoeForwardScratch(node.moe, WidthOf(graph, node), training) +
         (training ? 0 : 2 * node.moe.top_k);
}

int64_t MoeGradientScratchWidth(const graph::Graph& graph, const Node& node) {
  return ops::MoeBackwardScratch(node.moe, WidthOf(graph, node)) + node.moe.top_k;
}

}  // namespace retort::engine
