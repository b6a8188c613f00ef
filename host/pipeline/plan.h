// A pipeline with everything looked at and nothing run: plugins found and their configs accepted,
// models opened, their graphs built, data counted, memory estimated.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "host/pipeline/config/config.h"
#include "host/session/session.h"

namespace retort::host {

struct PlannedModel {
  std::string label = {}, path = {},
              family = {};  // of "@sft": the graph of the model it starts from
  int64_t n_params = 0, n_layers = 0;
};

struct PlannedStage {
  const StageConfig* stage = nullptr;
  std::vector<PlannedModel> models = {};
  int64_t records = 0;      // that it reads
  bool at_most = false;     // … since a filter, not run yet, may drop some
  int64_t samples_out = 0;  // that it writes at most; 0: not a matter of samples
  double memory_bytes = 0;  // at its peak (core/engine/memory.h); 0: small
  int32_t recompute = -1;   // the level that training takes; -1: it trains nothing
};

struct Plan {
  std::vector<PlannedStage> stages = {};
  const PlannedStage* Find(std::string_view name) const;
};

// INVALID_ARGUMENT: wrong in the file (a plugin's id or config). Other codes: a model, data or
// plugin file can't be used.
// Fills in the paths of files that plugin configs name. `config` outlives the plan.
Result<Plan> MakePlan(Session& session, PipelineConfig& config);

}  // namespace retort::host
