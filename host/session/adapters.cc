// Models with adapters: which folder is the base, which the adapter; graph and weights of both.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "core/graph/value_head.h"
#include "core/io/filesystem.h"
#include "host/session/session.h"

namespace retort::host {

Result<std::optional<OpenedAdapter>> Session::OpenAdapter(const std::string& path,
                                                          const std::string& adapter) {
  if (adapter.empty() && !model::IsAdapterFolder(path)) return std::optional<OpenedAdapter>();
  OpenedAdapter opened = {.folder = adapter.empty() ? path : adapter, .config = {}, .base = path};
  RETORT_ASSIGN_OR_RETURN(opened.config, model::ReadPeftConfig(opened.folder));
  if (adapter.empty()) {
    RETORT_ASSIGN_OR_RETURN(opened.base, model::FindAdapterBase(opened.folder, opened.config));
  }
  if (!model::IsAdapterFolder(opened.base)) return std::optional<OpenedAdapter>(std::move(opened));
  return FailedPrecondition(opened.folder + ": its base " + opened.base +
                            " is an adapter itself; merge that one into its base first");
}

std::filesystem::file_time_type Session::WrittenAt(const std::string& path,
                                                   const std::optional<OpenedAdapter>& adapter) {
  std::error_code ignored;  // opening says what is wrong with a path
  auto written = std::filesystem::last_write_time(path, ignored);
  if (!adapter) return written;
  for (const std::string& part : {adapter->folder, adapter->base}) {
    written = std::max(written, std::filesystem::last_write_time(part, ignored));
  }
  return written;
}

Result<std::unique_ptr<engine::Model>> Session::LoadModel(const OpenedModel& opened,
                                                          const engine::LoadOptions& options) {
  std::vector<AdapterUse> adapters;
  if (opened.adapter) adapters.push_back(UseOf(*opened.adapter));
  return LoadModel(opened, options, adapters);
}

AdapterUse UseOf(const OpenedAdapter& adapter) {
  const model::PeftConfig& config = adapter.config;
  const Heads beside = config.value_head ? Heads::kValueToo : Heads::kAsSaved;
  return {.spec = config.lora,
          .folder = adapter.folder,
          .heads = config.reward_model ? Heads::kValueOnly : beside};
}

Result<graph::Graph> Session::BuildGraph(const model::Source& source,
                                         std::span<const AdapterUse> adapters, Heads heads) {
  const auto brings = [](const AdapterUse& use) { return use.heads != Heads::kAsSaved; };
  const auto owner = std::find_if(adapters.begin(), adapters.end(), brings);
  if (owner != adapters.end() && std::any_of(owner + 1, adapters.end(), brings)) {
    return Unimplemented("model " + source.path() +
                         ": two of its adapters have a value head; a model can have one");
  }
  if (heads == Heads::kAsSaved && owner != adapters.end()) heads = owner->heads;
  RETORT_ASSIGN_OR_RETURN(graph::Graph graph, BuildGraph(source, heads));
  for (const AdapterUse& use : adapters) {
    const Status added = graph::AddLora(graph, use.spec);
    if (added.ok()) continue;
    return added.WithContext(use.folder.empty() ? "model " + source.path() : use.folder);
  }
  if (heads == Heads::kAsSaved || adapters.empty()) return graph;
  graph::GiveHeadTo(graph, owner == adapters.end()
                               ? static_cast<int32_t>(adapters.size()) - 1
                               : static_cast<int32_t>(owner - adapters.begin()));
  return graph;
}

Result<std::unique_ptr<engine::Model>> Session::LoadModel(const OpenedModel& opened,
                                                          engine::LoadOptions options,
                                                          std::span<const AdapterUse> adapters,
                                                          Heads heads) {
  RETORT_ASSIGN_OR_RETURN(graph::Graph graph, BuildGraph(*opened.source, adapters, heads));
  options.adapters.clear();
  for (const AdapterUse& use : adapters) options.adapters.push_back(use.folder);
  RETORT_ASSIGN_OR_RETURN(engine::Engine * engine, Engine());
  if (const auto seed = opened.source->init_seed()) {
    options.init_seed = *seed;
    return engine->Create(std::move(graph), options);
  }
  return engine->Load(*opened.source, std::move(graph), options);
}

}  // namespace retort::host
