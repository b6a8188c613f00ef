// Adapters as a rewrite of a finished graph: each chosen linear node gets a low-rank part, whose
// params join graph.params behind the base's. Several adapters live side by side; a pass runs the
// base with one of them, or alone.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/graph/graph.h"

namespace retort::graph {

// peft.LoraConfig's terms.
struct LoraSpec {
  std::string name = "default";
  int64_t r = 8;
  double alpha = 8, dropout = 0;
  bool rslora = false;  // scale = alpha / sqrt(r) instead of alpha / r
  // Module names ("q_proj"), dotted suffixes, or patterns with * and ? (over the whole name or a
  // dotted suffix of it); {"all-linear"}: every linear node but the head. Modules are named by
  // their weight in the checkpoint.
  std::vector<std::string> targets = {"all-linear"};
  std::map<std::string, int64_t> rank_pattern = {};  // as a target -> its own r
  std::map<std::string, double> alpha_pattern = {};
};

inline constexpr std::string_view kAllLinear = "all-linear";

// Param names are PEFT's without its prefix: "<module>.lora_A.<name>.weight". A starts by
// PEFT's rule (Kaiming uniform with a = sqrt(5)), B at zero. INVALID_ARGUMENT: r < 1, dropout
// outside [0, 1), a target or pattern that matches nothing (with the nearest module), a name taken.
// UNIMPLEMENTED: a module whose weight the graph holds transposed, or only some rows of.
Status AddLora(Graph& graph, const LoraSpec& spec);

// Module names that a target may match, in graph order, each once.
std::vector<std::string> LinearModules(const Graph& graph);

// Rank and alpha of one module: of the longest pattern that matches it, else the spec's own.
int64_t RankOf(const LoraSpec& spec, std::string_view module);
double AlphaOf(const LoraSpec& spec, std::string_view module);

// Whether `module` is what `target` says: the name, a dotted suffix of it, or a pattern.
bool MatchesTarget(std::string_view module, std::string_view target);

// "model.layers.0.mlp.up_proj" of the adapter param "….up_proj.lora_A.<name>.weight".
std::string ModuleOf(const Graph& graph, const Param& param);

// Index into graph.adapters, or -1.
int32_t FindAdapter(const Graph& graph, std::string_view name);

// Columns of x A^T for the parts that `adapter` has at a node, side by side in their order.
int64_t LoraWidth(const Graph& graph, const Node& node, int32_t adapter);
// The widest that any one adapter needs.
int64_t LoraWidth(const Graph& graph, const Node& node);

}  // namespace retort::graph
