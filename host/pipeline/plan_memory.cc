// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/plan_memory.h"

#include <algorithm>

namespace retort::host {

int64_t MicroBatchTokens(const SftStage& stage) {
  if (stage.micro_batch_tokens > 0) return stage.micro_batch_tokens;
  return stage.max_length * std::max<int64_t>(stage.per_device, 1);
}

engine::MemoryEstimate EstimateSft(const SftStage& stage, const graph::Graph& graph,
                                   std::span<const DType> dtypes, int32_t n_threads) {
  engine::TrainMemory work{.tokens = MicroBatchTokens(stage),
                           .recompute = static_cast<int32_t>(stage.recompute),
                           .n_losses = static_cast<int64_t>(stage.losses.size()),
                           .longest = stage.max_length,
                           .n_threads = n_threads,
                           .dtypes = dtypes};
  if (stage.lora) work.adapter = static_cast<int32_t>(graph.adapters.size()) - 1;
  if (stage.recompute < 0) work.recompute = engine::ChooseRecompute(graph, work, 0);
  return engine::EstimateTraining(graph, work);
}

engine::MemoryEstimate EstimateDecode(const SamplingOptions& sampling,
                                      const DecodingOptions& decoding, const graph::Graph& graph,
                                      std::span<const DType> dtypes) {
  constexpr int64_t kPromptTokens = 512;
  const DType kv = decoding.kv_dtype == "bf16"   ? DType::kBF16
                   : decoding.kv_dtype == "int8" ? DType::kI8
                                                 : DType::kF32;
  return engine::EstimateDecoding(graph, {.slots = decoding.max_batch,
                                          .context = kPromptTokens + sampling.max_tokens,
                                          .kv_dtype = kv,
                                          .kv_memory = decoding.kv_memory,
                                          .dtypes = dtypes});
}

}  // namespace retort::host
