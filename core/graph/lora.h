// Adapters as a rewrite of a finished graph: each chosen linear node gets a low-rank part, whose
// params join graph.params behind the base's. Several adapters live side by side; a pass runs the
// base with one of them, or alone.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
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
  // Module names ("q_proj"), dotted suffixes, or patterns with * and ?; {"all-linear"}: every
  // linear node but the head. Modules are named by their weight in the checkpoint.
  std::vector<std::string> targets = {"all-linear"};
  std::map<std::string, int64_t> rank_pattern = {};  // suffix of a module -> its own r
  std::map<std::string, double> alpha_pattern = {};
};

// Param names are PEFT's without its prefix: "<module>.lora_A.<name>.weight". A starts by
// PEFT's rule (Kaiming uniform with a = sqrt(5)), B at zero. INVALID_ARGUMENT: r < 1, dropout
// outside [0, 1), a target that matches nothing (with the nearest module), a name taken.
Status AddLora(Graph& graph, const LoraSpec& spec);

// Module names that a target may match, in graph order.
std::vector<std::string> LinearModules(const Graph& graph);

}  // namespace retort::graph
