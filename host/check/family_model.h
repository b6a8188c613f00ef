// A family under test: sample configs, the graphs that it builds of them, and a model of such a
// graph with random weights in the engine.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/engine/engine.h"
#include "core/graph/graph.h"
#include "core/json/json.h"
#include "host/check/raw_plugin.h"
#include "host/check/rule.h"
#include "retort/abi/draft/family.h"

namespace retort::host::check {

// Small config.json texts of known model types, and one whose model_type is `id`.
std::vector<std::string> SampleConfigs(const std::string& id);

class Family {
 public:
  // OK without a table: not a family.
  static Result<Family> Open(const Subject& subject);
  bool there() const { return table_ != nullptr; }
  bool describes() const { return table_->describe != nullptr; }

  // The status of match, with the score; a misuse of the call is the failure.
  Result<retort_status> Match(std::string_view config, int32_t* score) const;
  // The subject's model, else the sample that it matches best. NOT_FOUND: none.
  Result<std::string> FindConfig() const;
  // Builds and checks the graph. UNAVAILABLE: it needs an op that this library doesn't have.
  Result<graph::Graph> Build(std::string_view config, Growth growth = Growth::kExact) const;
  // For configs that may be refused: the status of build; if that is OK, *graph says whether the
  // host took the graph.
  Result<retort_status> TryBuild(std::string_view config, Status* graph) const;
  Result<std::string> Describe(std::string_view config) const;

 private:
  Family(const Subject& subject, RawInstance plugin)
      : subject_(&subject), plugin_(std::move(plugin)) {}
  const Subject* subject_;
  RawInstance plugin_;
  const retort_family_v1* table_ = nullptr;
};

// A model with every checkpoint tensor that the graph names, random and never stored.
struct RandomModel {
  std::unique_ptr<engine::Engine> engine;  // outlives the model
  std::unique_ptr<engine::Model> model;
};
// FAILED_PRECONDITION: there is no engine at that path. `seed` of the weights.
Result<std::unique_ptr<engine::Engine>> OpenEngine(const std::string& path);
Result<RandomModel> LoadRandom(const std::string& engine_path, graph::Graph graph,
                               const std::string& config, uint64_t seed);

}  // namespace retort::host::check
