// What a stage that is only planned will ask of a model that decodes: of its prompts if its data is
// there, else of as many that are taken to be of a usual length.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "core/base/status.h"
#include "core/engine/engine.h"
#include "host/pipeline/config/config.h"
#include "host/pipeline/stage_models.h"

namespace retort::host {

struct PlannedRequests {
  engine::GenerateOptions options = {};
  std::vector<engine::GenerateRequest> requests = {};
};

// `records`: how many prompts there are at most.
Result<PlannedRequests> RequestsOfStage(Session& session, const PipelineConfig& config,
                                        const GenerateStage& stage, const StageModel& model,
                                        int64_t records);
Result<PlannedRequests> RequestsOfTask(Session& session, const PipelineConfig& config,
                                       const EvalTask& task, const StageModel& model,
                                       int64_t records);

}  // namespace retort::host
