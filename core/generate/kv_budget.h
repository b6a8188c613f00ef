// How large the KV cache of a run is.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "core/base/status.h"
#include "core/engine/engine.h"

namespace retort::generate {

struct KvBudget {
  int64_t slots = 0, context = 0;  // samples decoded together; tokens of a sample
  int64_t blocks = 0;
};

// The most blocks that any `slots` samples can hold together, those longer than `context` apart.
// Samples that may outgrow their keys share no blocks.
int64_t MostBlocks(std::span<const engine::GenerateRequest> requests, int64_t slots,
                   int64_t context, std::span<const int64_t> stale_lengths = {});

// As the options bound it, and no more than the requests can use. INVALID_ARGUMENT: kv_memory has
// no room for a single block; RESOURCE_EXHAUSTED: more blocks than can be counted.
Result<KvBudget> MakeKvBudget(std::span<const engine::GenerateRequest> requests,
                              const engine::GenerateOptions& options, int64_t block_bytes,
                              std::span<const int64_t> stale_lengths = {});

}  // namespace retort::generate
