// Per-token log-probabilities of given texts: requests packed into forward passes, logits chunk by
// chunk.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/base/status.h"
#include "core/engine/engine.h"
#include "core/engine/inference.h"
#include "core/graph/graph.h"

namespace retort::engine {

// The contract of Model::Score. May throw Error.
Result<std::vector<ScoreResult>> Score(Inference& inference, const graph::Graph& graph,
                                       std::span<const TensorView> params,
                                       std::span<const ScoreRequest> requests, int64_t max_tokens,
                                       const Cancel* cancel,
                                       const std::function<void(int64_t)>& on_progress,
                                       int n_threads);

}  // namespace retort::engine
