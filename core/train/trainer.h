// The step loop's body: forward, losses, backward over an accumulation window, then one update.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>

#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/engine/engine.h"
#include "core/graph/graph.h"

namespace retort::train {

// `params`: f32 views in graph order, updated in place; graph and params outlive the trainer.
Result<std::unique_ptr<engine::Trainer>> MakeTrainer(const graph::Graph& graph,
                                                     std::span<const TensorView> params,
                                                     const engine::TrainerOptions& options,
                                                     int n_threads);

}  // namespace retort::train
