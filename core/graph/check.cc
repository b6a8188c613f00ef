// Checks that need the whole graph, and the roles of params from how nodes use them.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>

#include "core/graph/builder_impl.h"
#include "retort/abi/draft/optimizer.h"

namespace retort::graph {
namespace {

uint32_t RoleOf(Op op, size_t slot) {
  switch (op) {
    case Op::kEmbed: return RETORT_ROLE_EMBEDDING;
    case Op::kLinear: return slot == 0 ? RETORT_ROLE_MATRIX : RETORT_ROLE_BIAS;
    case Op::kLayerNorm: return slot == 0 ? RETORT_ROLE_NORM : RETORT_ROLE_BIAS;
    case Op::kRmsNorm:
    case Op::kHeadNorm:
    case Op::kMul: return RETORT_ROLE_NORM;
    case Op::kAdd: return RETORT_ROLE_BIAS;
    case Op::kMoe: return slot < 2 ? RETORT_ROLE_EXPERT : RETORT_ROLE_BIAS;
    default: return 0;
  }
}

void AssignRoles(Graph& graph) {
  for (const Node& node : graph.nodes) {
    for (size_t slot = 0; slot < node.params.size(); ++slot) {
      if (node.params[slot] < 0) continue;
      graph.params[static_cast<size_t>(node.params[slot])].roles |= RoleOf(node.op, slot);
    }
    if (node.op != Op::kMoe) continue;
    const int32_t router = graph.values[static_cast<size_t>(node.in[1])].producer;
    const Node& scores = graph.nodes[static_cast<size_t>(router)];
    if (scores.op != Op::kLinear) continue;
    graph.params[static_cast<size_t>(scores.params[0])].roles |= RETORT_ROLE_ROUTER;
  }
  graph.params[static_cast<size_t>(graph.head)].roles |= RETORT_ROLE_HEAD;
}

// Every value must reach the result, else its gradient would be undefined and its work wasted.
void CheckUse(const Graph& graph, std::vector<std::string>& errors) {
  std::vector<bool> used(graph.values.size(), false);
  used[static_cast<size_t>(graph.hidden)] = true;
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    const auto out = used.begin() + node->out;
    if (std::find(out, out + node->n_out, true) == out + node->n_out) {
      errors.push_back("node " + std::to_string(graph.nodes.rend() - node - 1) + " (" +
                       OpName(node->op) + "): its output never reaches the result");
      continue;
    }
    for (int32_t v : node->in) used[static_cast<size_t>(v)] = true;
  }
  std::vector<bool> taken(graph.params.size(), false);  // as an input of a custom op
  for (size_t v = 0; v < graph.values.size(); ++v) {
    if (graph.values[v].param >= 0 && used[v]) {
      taken[static_cast<size_t>(graph.values[v].param)] = true;
    }
  }
  for (size_t p = 0; p < graph.params.size(); ++p) {
    if (graph.params[p].roles == 0 && !taken[p]) {
      errors.push_back("param \"" + graph.params[p].name + "\" is declared but never used");
    }
  }
}

// Params may share a checkpoint tensor, but only in rows that don't overlap.
void CheckSources(const Graph& graph, std::vector<std::string>& errors) {
  struct Rows {
    int64_t begin, end;
    const Param* param;
  };
  std::map<std::string, std::vector<Rows>> claims;
  for (const Param& param : graph.params) {
    for (const Source& s : param.sources) {
      const bool all = s.row_begin == 0 && s.row_end == 0;
      claims[s.checkpoint_name].push_back({s.row_begin, all ? INT64_MAX : s.row_end, &param});
    }
  }
  for (auto& [name, rows] : claims) {
    std::sort(rows.begin(), rows.end(),
              [](const Rows& a, const Rows& b) { return a.begin < b.begin; });
    for (size_t i = 1; i < rows.size(); ++i) {
      if (rows[i].begin >= rows[i - 1].end) continue;
      errors.push_back("checkpoint tensor \"" + name + "\" is claimed twice, by params \"" +
                       rows[i - 1].param->name + "\" and \"" + rows[i].param->name + "\"");
    }
  }
}

}  // namespace

void CheckAndAssignRoles(Graph& graph, std::vector<std::string>& errors) {
  AssignRoles(graph);
  CheckUse(graph, errors);
  CheckSources(graph, errors);
}

}  // namespace retort::graph
