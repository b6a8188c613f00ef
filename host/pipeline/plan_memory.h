// How much memory a stage takes at its peak, for `retort plan`.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/engine/engine.h"
#include "core/engine/memory.h"
#include "core/graph/graph.h"
#include "host/pipeline/config/config.h"

namespace retort::host {

// The most tokens that a micro-batch of the stage holds, and micro-batches of a step.
int64_t MicroBatchTokens(const SftStage& stage);
int64_t MicroBatchTokens(const GrpoStage& stage);
int64_t MicroBatches(const SftStage& stage);

// A model as a stage keeps it in memory; one that it trains with its adapter, if any, as the last
// one, and what is not trained marked.
struct SizedModel {
  graph::Graph graph;
  std::vector<DType> dtypes = {};
  int64_t optimizer_bytes = 0;  // what the stage's optimizer keeps for it
};

// The stage's largest step, at the recompute level that it takes. The models outlive the result.
engine::TrainMemory SftWork(const SftStage& stage, const SizedModel& model, int32_t n_threads,
                            const SizedModel* teacher = nullptr);
// Bytes of a distill stage at its peak: with the teacher beside the student, or, where its rows
// are cached, the larger of what one and then the other takes. Also the level of recomputation.
Result<int64_t> DistillBytes(const StageConfig& stage, const SizedModel& student,
                             const SizedModel& teacher, int32_t n_threads, int32_t* recompute);
// Likewise; prompts are taken for kUsualPrompt tokens long.
engine::TrainMemory GrpoWork(const GrpoStage& stage, const SizedModel& model, int32_t n_threads);
// What sampling keeps beside the weights, at its most.
int64_t RolloutBytes(const GrpoStage& stage, const graph::Graph& graph,
                     std::span<const DType> dtypes);
inline constexpr int64_t kUsualPrompt = 512;
inline constexpr int64_t kPolicyMicroBatch = 2048;  // tokens, unless micro_batch_tokens says more

// One model that answers `requests`.
Result<engine::MemoryEstimate> EstimateDecode(const engine::GenerateOptions& options,
                                              std::span<const engine::GenerateRequest> requests,
                                              const graph::Graph& graph,
                                              std::span<const DType> dtypes);

}  // namespace retort::host
