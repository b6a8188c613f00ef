// Which heads the models of a stage have, and whether its losses find what they need.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/base/status.h"
#include "core/graph/graph.h"
#include "host/pipeline/config/config.h"
#include "host/session/session.h"

namespace retort::host {

// The heads of what a stage trains; and of a model, which are those of the stage that made it.
Heads HeadsOf(const StageConfig& stage);
Heads HeadsOf(const ModelRef& ref, const PipelineConfig& config);

// INVALID_ARGUMENT: a loss needs a head that the stage's model lacks, or, of a reward_model stage,
// doesn't look at values. `graph`: of what the stage trains.
Status CheckLossHeads(Session& session, const StageConfig& stage, const graph::Graph& graph);

}  // namespace retort::host
