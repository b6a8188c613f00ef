// The value head: one number per hidden row, as of transformers' ...ForSequenceClassification with
// one label and no bias. Reward models score by it; PPO's policy has it beside the LM head.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "core/base/status.h"
#include "core/graph/graph.h"

namespace retort::graph {

inline constexpr std::string_view kValueHeadName = "score.weight";
// transformers' initializer_range, of which AutoModelForSequenceClassification draws a new head.
inline constexpr double kValueHeadInit = 0.02;

// Adds the param [1, D], behind all others. Where a checkpoint lacks it, it starts normal with
// `init_std`: with zeros a reward model's hidden states would get no gradient in its first step.
// INVALID_ARGUMENT: there is one, or another param has its name.
Status AddValueHead(Graph& graph, double init_std = kValueHeadInit);

// Whether it is the value head, of the model or of an adapter.
inline bool IsValueHead(const Param& param) { return param.name == kValueHeadName; }

// The head is trained, saved and loaded with an adapter instead of with the base; its first values
// are still the base's, if that has one. One adapter of a graph can have it.
void GiveHeadTo(Graph& graph, int32_t adapter);

// Makes a reward model of it: gives values, no logits. A head of its own goes; a tied one stays
// the embedding.
void DropLmHead(Graph& graph);

// FAILED_PRECONDITION unless the model gives logits; `what` is what needs them.
Status CheckHasLmHead(const Graph& graph, std::string_view what);

// FAILED_PRECONDITION unless the model gives values, as a reward must.
Status CheckHasValueHead(const Graph& graph);

}  // namespace retort::graph
