// How much memory a stage takes at its peak, for `retort plan`.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "core/base/tensor.h"
#include "core/engine/memory.h"
#include "core/graph/graph.h"
#include "host/pipeline/config/config.h"

namespace retort::host {

// The most tokens that a micro-batch of the stage holds.
int64_t MicroBatchTokens(const SftStage& stage);

// `graph` with the adapter that the stage trains, if any, as its last one.
engine::MemoryEstimate EstimateSft(const SftStage& stage, const graph::Graph& graph,
                                   std::span<const DType> dtypes, int32_t n_threads);

// One model that decodes; prompts are taken to have 512 tokens.
engine::MemoryEstimate EstimateDecode(const SamplingOptions& sampling,
                                      const DecodingOptions& decoding, const graph::Graph& graph,
                                      std::span<const DType> dtypes);

}  // namespace retort::host
