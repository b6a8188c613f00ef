// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/plan_memory.h"

#include <algorithm>

#include "core/data/loader.h"
#include "core/generate/kv_budget.h"
#include "core/graph/rope.h"

namespace retort::host {

int64_t MicroBatchTokens(const SftStage& stage) {
  if (stage.per_device > 0) return stage.max_length * stage.per_device;
  // As the loader fills them: by tokens, but a document is never cut in two.
  const int64_t wanted = stage.micro_batch_tokens > 0
                             ? stage.micro_batch_tokens
                             : std::max<int64_t>(stage.max_length, data::kLeastMicroTokens);
  return std::max(std::min(wanted, stage.batch_tokens), stage.max_length);
}

int64_t MicroBatches(const SftStage& stage) {
  if (stage.per_device > 0) return stage.accumulation;
  const int64_t tokens = MicroBatchTokens(stage);
  return std::max<int64_t>(1, (stage.batch_tokens + tokens - 1) / tokens);
}

engine::TrainMemory SftWork(const SftStage& stage, const graph::Graph& graph,
                            std::span<const DType> dtypes, int32_t n_threads) {
  engine::TrainMemory work{.tokens = MicroBatchTokens(stage),
                           .micro_batches = MicroBatches(stage),
                           .recompute = static_cast<int32_t>(stage.recompute),
                           .n_losses = static_cast<int64_t>(stage.losses.size()),
                           .longest = stage.max_length,
                           .n_threads = n_threads,
                           .dtypes = dtypes};
  if (stage.lora) work.adapter = static_cast<int32_t>(graph.adapters.size()) - 1;
  if (work.recompute == engine::kRecomputeAuto) {
    work.recompute = engine::ChooseRecompute(graph, work, stage.memory_limit);
  }
  return work;
}

Result<engine::MemoryEstimate> EstimateDecode(const engine::GenerateOptions& options,
                                              std::span<const engine::GenerateRequest> requests,
                                              const graph::Graph& graph,
                                              std::span<const DType> dtypes) {
  const int64_t block_bytes = engine::KvBlockBytes(graph, options.kv_dtype);
  RETORT_ASSIGN_OR_RETURN(
      const generate::KvBudget budget,
      generate::MakeKvBudget(requests, options, block_bytes, graph::StaleLengths(graph)));
  int64_t longest = 0;
  for (const engine::GenerateRequest& request : requests) {
    longest = std::max(longest, static_cast<int64_t>(request.ids.size() + request.prefix.size()));
  }
  return engine::EstimateDecoding(graph,
                                  {.slots = budget.slots,
                                   .pass_tokens = std::min<int64_t>(longest, options.prefill_chunk),
                                   .kv_blocks = budget.blocks,
                                   .kv_dtype = options.kv_dtype,
                                   .dtypes = dtypes});
}

}  // namespace retort::host
