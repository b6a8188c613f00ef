// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stage_lora.h"

#include <map>

namespace retort::host {
namespace {

struct ModuleFacts {
  int64_t r = 0;
  double scale = 0;
};

Result<std::map<std::string, ModuleFacts>> FactsOf(Session& session, const OpenedModel& model,
                                                   const graph::LoraSpec& lora) {
  RETORT_ASSIGN_OR_RETURN(graph::Graph graph, session.BuildGraph(*model.source));
  RETORT_RETURN_IF_ERROR(graph::AddLora(graph, lora));
  std::map<std::string, ModuleFacts> facts;
  for (const graph::Node& node : graph.nodes) {
    for (const graph::LoraPart& part : node.lora) {
      const graph::Param& a = graph.params[static_cast<size_t>(part.a)];
      facts[graph::ModuleOf(graph, a)] = {.r = a.shape[0], .scale = part.scale};
    }
  }
  return facts;
}

}  // namespace

Result<AdapterUse> TrainedAdapter(Session& session, const OpenedModel& model,
                                  const graph::LoraSpec& lora) {
  if (model.source->init_seed()) {
    return InvalidArgument("model " + model.path +
                           " has no weights yet that an adapter could stand beside: leave lora "
                           "out, or train it whole in an earlier stage");
  }
  RETORT_ASSIGN_OR_RETURN(const auto wanted, FactsOf(session, model, lora));
  if (!model.adapter) return AdapterUse{.spec = lora};
  const std::string& folder = model.adapter->folder;
  RETORT_ASSIGN_OR_RETURN(const auto there, FactsOf(session, model, model.adapter->config.lora));
  for (const auto& [module, facts] : there) {
    const auto found = wanted.find(module);
    if (found == wanted.end()) {
      return InvalidArgument("the adapter " + folder + " has weights of " + module +
                             ", which targets leaves out; it can only be trained as it is");
    }
    if (found->second.r != facts.r || found->second.scale != facts.scale) {
      return InvalidArgument("the adapter " + folder + " has rank " + std::to_string(facts.r) +
                             " and scale " + std::to_string(facts.scale) + " at " + module +
                             "; r, alpha and use_rslora give " + std::to_string(found->second.r) +
                             " and " + std::to_string(found->second.scale));
    }
  }
  for (const auto& [module, facts] : wanted) {
    if (there.contains(module)) continue;
    return InvalidArgument("the adapter " + folder + " has no weights of " + module +
                           ", which targets names; it can only be trained as it is");
  }
  AdapterUse use = UseOf(*model.adapter);
  use.spec = lora;
  return use;
}

Status CheckTrainedWhole(const OpenedModel& model) {
  if (!model.adapter) return OkStatus();
  return InvalidArgument("model " + model.path +
                         " is a base with an adapter: add lora to train the adapter further, or "
                         "merge it into the base first (retort model merge)");
}

}  // namespace retort::host
