// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/plan_memory.h"

#include <algorithm>

#include "core/data/loader.h"
#include "core/engine/kv_dtype.h"
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

int64_t MicroBatchTokens(const GrpoStage& stage) {
  return stage.micro_batch_tokens > 0 ? stage.micro_batch_tokens : kPolicyMicroBatch;
}

int64_t MicroBatches(const SftStage& stage) {
  if (stage.per_device > 0) return stage.accumulation;
  const int64_t tokens = MicroBatchTokens(stage);
  return std::max<int64_t>(1, (stage.batch_tokens + tokens - 1) / tokens);
}

namespace {

struct StepShape {
  int64_t micro_tokens, micro_batches, longest;
};

engine::TrainMemory WorkOf(const TrainingConfig& train, const StepShape& shape,
                           const SizedModel& model, int32_t n_threads, const SizedModel* teacher) {
  engine::TrainMemory work{.tokens = shape.micro_tokens,
                           .micro_batches = shape.micro_batches,
                           .recompute = static_cast<int32_t>(train.recompute),
                           .state_bytes = model.optimizer_bytes,
                           .n_losses = static_cast<int64_t>(train.losses.size()),
                           .longest = shape.longest,
                           .n_threads = n_threads,
                           .dtypes = model.dtypes};
  if (teacher != nullptr) {
    work.teacher = &teacher->graph;
    work.teacher_dtypes = teacher->dtypes;
  }
  if (train.lora) work.adapter = static_cast<int32_t>(model.graph.adapters.size()) - 1;
  if (work.recompute == engine::kRecomputeAuto) {
    work.recompute = engine::ChooseRecompute(model.graph, work, train.memory_limit);
  }
  return work;
}

}  // namespace

engine::TrainMemory SftWork(const SftStage& stage, const SizedModel& model, int32_t n_threads,
                            const SizedModel* teacher) {
  const StepShape shape = {MicroBatchTokens(stage), MicroBatches(stage), stage.max_length};
  return WorkOf(stage, shape, model, n_threads, teacher);
}

engine::TrainMemory GrpoWork(const GrpoStage& stage, const SizedModel& model, int32_t n_threads) {
  const int64_t longest = kUsualPrompt + stage.sampling.max_tokens;
  const int64_t wanted = MicroBatchTokens(stage);
  const int64_t sequences =
      stage.prompts_per_step / stage.steps_per_generation * stage.num_generations;
  const int64_t all = sequences * longest, tokens = std::min(std::max(wanted, longest), all);
  const StepShape shape = {tokens, (all + tokens - 1) / tokens, longest};
  return WorkOf(stage, shape, model, n_threads, nullptr);
}

int64_t RolloutBytes(const GrpoStage& stage, const graph::Graph& graph,
                     std::span<const DType> dtypes) {
  constexpr int64_t kBlock = 64;  // positions of a block of keys and values
  const int64_t slots =
      std::min(stage.decoding.max_batch, stage.prompts_per_step * stage.num_generations);
  const int64_t context = kUsualPrompt + stage.sampling.max_tokens;
  const DType kv = *engine::ParseKvDtype(stage.decoding.kv_dtype);
  const engine::MemoryEstimate estimate =
      engine::EstimateDecoding(graph, {.slots = slots,
                                       .pass_tokens = kUsualPrompt,
                                       .kv_blocks = slots * ((context + kBlock - 1) / kBlock),
                                       .kv_dtype = kv,
                                       .dtypes = dtypes});
  return estimate.total() - estimate.weights - estimate.process;
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

// What the student takes beside training to write its own samples: prompts that, with the longest
// completion, fill max_length.
static Result<int64_t> OwnSampleBytes(const StageConfig& stage, const SizedModel& student) {
  const DistillOptions& distill = stage.distill;
  engine::GenerateOptions options;
  options.max_batch = static_cast<int32_t>(distill.decoding.max_batch);
  options.kv_memory = distill.decoding.kv_memory;
  options.prefill_chunk = static_cast<int32_t>(distill.decoding.prefill_chunk);
  RETORT_ASSIGN_OR_RETURN(options.kv_dtype, engine::ParseKvDtype(distill.decoding.kv_dtype));
  const int64_t written = std::min(distill.sampling.max_tokens, stage.sft.max_length - 1);
  engine::GenerateRequest request = {.ids = {}, .prefix = {}, .sampling = {}};
  request.ids.resize(static_cast<size_t>(stage.sft.max_length - written));
  request.sampling.max_tokens = static_cast<int32_t>(written);
  const std::vector<engine::GenerateRequest> requests(
      static_cast<size_t>(distill.decoding.max_batch), request);
  RETORT_ASSIGN_OR_RETURN(const engine::MemoryEstimate estimate,
                          EstimateDecode(options, requests, student.graph, student.dtypes));
  return estimate.cache;
}

Result<int64_t> DistillBytes(const StageConfig& stage, const SizedModel& student,
                             const SizedModel& teacher, int32_t n_threads, int32_t* recompute) {
  const bool beside = stage.distill.teacher_top_k == 0;
  engine::TrainMemory work = SftWork(stage.sft, student, n_threads, beside ? &teacher : nullptr);
  *recompute = work.recompute;
  work.teacher = &teacher.graph;
  work.teacher_dtypes = teacher.dtypes;
  const engine::MemoryEstimate both = engine::EstimateTraining(student.graph, work);
  if (!beside) return std::max(both.total() - both.teacher, both.teacher + both.process);
  if (stage.distill.on_policy == 0) return both.total();
  RETORT_ASSIGN_OR_RETURN(const int64_t cache, OwnSampleBytes(stage, student));
  return both.total() + cache;
}

}  // namespace retort::host
