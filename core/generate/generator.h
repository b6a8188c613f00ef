// Answers prompts: continuous batching over decode slots with a KV cache, on the graph and weights
// of an Inference. One call is one run: memory for cache and logits is taken at its start.
// A sample's tokens depend only on (weights, prompt, params, seed, uid, index): prompts are
// prefilled one by one, decode rows go through batch-invariant kernels (up to ops::kSkinnyRows
// slots; beyond, up to rounding).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "core/base/status.h"
#include "core/engine/engine.h"
#include "core/engine/inference.h"
#include "core/graph/graph.h"

namespace retort::generate {

// Every (uid, index) is reported once through options.on_done, refused requests too (kError, with
// the numbers). A failed Status means bad options or requests that name nothing answerable as a
// whole: no callback was made. Cancelled: live and waiting samples are reported as kCancelled.
Result<engine::GenerateStats> Generate(engine::Inference& inference, const graph::Graph& graph,
                                       std::span<const engine::GenerateRequest> requests,
                                       const engine::GenerateOptions& options, int n_threads);

}  // namespace retort::generate
