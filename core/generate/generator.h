// Answers prompts: continuous batching over a blocked KV cache, on the graph and weights of an
// Inference. One call is one run: memory for cache and logits is taken at its start.
// A sample's tokens depend only on (weights, prompt, params, seed, uid, index) and on what the
// cache stores (kv_dtype) and how prompts are cut (prefill_chunk): prompts are prefilled one by
// one, rows are decoded by batch-invariant kernels, at most ops::kSkinnyRows a pass.
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
// whole, before any callback, or a pass that failed. Cancelled: live and waiting samples are
// reported as kCancelled; a request that is cancelled alone, when its turn comes.
Result<engine::GenerateStats> Generate(engine::Inference& inference, const graph::Graph& graph,
                                       std::span<const engine::GenerateRequest> requests,
                                       const engine::GenerateOptions& options, int n_threads);

}  // namespace retort::generate
