// SPDX-License-Identifier: Apache-2.0
#include "core/graph/shared_rows.h"

#include <algorithm>

#include "core/graph/custom_op.h"
#include "core/graph/rope.h"

namespace retort::graph {

bool TextsMayShareRows(const Graph& graph) {
  return std::all_of(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) {
    switch (node.op) {
      case Op::kMoe: return false;
      case Op::kCustom: return graph.customs[static_cast<size_t>(node.custom)].rowwise();
      case Op::kRope: {
        const Result<RopeLengths> lengths = RopeLengthsOf(node.rope);
        return lengths.ok() && lengths->limit == 0;
      }
      default: return true;
    }
  });
}

}  // namespace retort::graph
