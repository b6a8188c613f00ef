// SPDX-License-Identifier: Apache-2.0
#include "core/graph/value_head.h"

#include <algorithm>
#include <string>

#include "retort/abi/draft/optimizer.h"

namespace retort::graph {
namespace {

// Every index behind `gone` moves down by one.
void RemoveParam(Graph& graph, int32_t gone) {
  const auto fix = [gone](int32_t& index) { index -= index > gone ? 1 : 0; };
  for (Node& node : graph.nodes) {
    for (int32_t& param : node.params) fix(param);
    for (LoraPart& part : node.lora) fix(part.a), fix(part.b);
  }
  for (Value& value : graph.values) fix(value.param);
  fix(graph.value_head);
  graph.params.erase(graph.params.begin() + gone);
}

int32_t EmbeddingOf(const Graph& graph) {
  const auto embed = std::find_if(graph.nodes.begin(), graph.nodes.end(),
                                  [](const Node& node) { return node.op == Op::kEmbed; });
  return embed == graph.nodes.end() ? -1 : embed->params[0];
}

}  // namespace

Status AddValueHead(Graph& graph, double init_std) {
  const std::string name(kValueHeadName);
  for (const Param& param : graph.params) {
    if (param.name != name) continue;
    return InvalidArgument("the model has a param \"" + name + "\" already");
  }
  Param param{.name = name,
              .shape = {1, graph.width()},
              .sources = {{.checkpoint_name = name, .optional = true}},
              .roles = RETORT_ROLE_HEAD,
              .init = RETORT_INIT_NORMAL,
              .init_value = init_std};
  graph.params.push_back(std::move(param));
  graph.value_head = static_cast<int32_t>(graph.params.size() - 1);
  return OkStatus();
}

void GiveHeadTo(Graph& graph, int32_t adapter) {
  graph.params[static_cast<size_t>(graph.value_head)].adapter = adapter;
}

void DropLmHead(Graph& graph) {
  graph.has_lm_head = false;
  const int32_t embedding = EmbeddingOf(graph), head = graph.head;
  if (embedding < 0 || embedding == head) return;
  graph.head = embedding - (embedding > head ? 1 : 0);
  RemoveParam(graph, head);
}

Status CheckHasLmHead(const Graph& graph, std::string_view what) {
  if (graph.has_lm_head) return OkStatus();
  return FailedPrecondition(std::string(what) +
                            ": the model is a reward model, whose value head gives one number per "
                            "text; it has no LM head. Use a causal language model");
}

Status CheckHasValueHead(const Graph& graph) {
  if (graph.value_head >= 0) return OkStatus();
  return FailedPrecondition(
      "it has no value head (score.weight); a reward needs what a reward_model stage writes, or a "
      "...ForSequenceClassification model with one label");
}

}  // namespace retort::graph
