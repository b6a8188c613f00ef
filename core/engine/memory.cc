// SPDX-License-Identifier: Apache-2.0
#include "core/engine/memory.h"

#include <algorithm>

#include "core/base/features.h"
#include "core/base/system_memory.h"
#include "core/engine/head.h"
#include "core/engine/layout.h"
#include "core/engine/plan.h"
#include "core/graph/merge.h"
#include "core/model/packed.h"
#include "core/model/storage.h"
#include "retort/kernels/attention_train.h"
#include "retort/kernels/kv_attention.h"

namespace retort::engine {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kFloat = 4;
// Measured on x86-64: the program, its libraries, plugins and a tokenizer, before any weight is
// there; what LibTorch adds, which training opens and decoding doesn't; and what BLAS keeps for
// each thread once large products have run.
constexpr int64_t kProcessBytes = int64_t{30} << 20;
constexpr int64_t kLibTorchBytes = int64_t{90} << 20;
constexpr int64_t kBlasBytesPerThread = int64_t{8} << 20;

int64_t Padded(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

std::vector<graph::MergeGroup> Groups(const graph::Graph& graph) {
  return IsDisabled("merge") ? std::vector<graph::MergeGroup>() : graph::MergeGroups(graph);
}

Plan PlanFor(const graph::Graph& graph, PlanOptions options) {
  const std::vector<graph::MergeGroup> groups = Groups(graph);
  options.groups = groups;
  return MakePlan(graph, options);
}

int64_t ArenaBytes(const graph::Graph& graph, const PlanOptions& options, int64_t rows) {
  return ArenaElements(PlanFor(graph, options), PaddedRows(rows)) * kFloat;
}

// Logits of a chunk, their gradient where it can't take their place, and one loss's copy; hidden
// rows and their gradient.
int64_t HeadBytes(const graph::Graph& graph, int64_t rows, int64_t head_rows, int64_t n_losses) {
  const int64_t chunk = HeadChunkRows(rows, graph.vocab(), DType::kF32, head_rows);
  const bool in_place = n_losses == 1 && graph.logit_soft_cap <= 0;
  const int64_t copies = 1 + (in_place ? 0 : 1) + (n_losses > 1 ? 1 : 0);
  return chunk * (copies * graph.vocab() + 2 * graph.width() + 16) * kFloat;
}

// What attention works in beside its buffers: the most of any layer.
int64_t AttentionScratch(const graph::Graph& graph, int64_t longest, int32_t n_threads) {
  int64_t most = 0;
  for (const graph::Node& node : graph.nodes) {
    if (node.op != graph::Op::kAttention) continue;
    retort_train_attention_shape shape{};
    shape.n_heads = node.attention.n_heads;
    shape.n_kv_heads = node.attention.n_kv_heads;
    shape.head_dim = node.attention.head_dim;
    most = std::max(most, retort_train_attention_scratch_f32(&shape, longest, 1, n_threads));
  }
  return most;
}

int KvType(DType dtype) {
  if (dtype == DType::kBF16) return RETORT_KERNELS_KV_BF16;
  return dtype == DType::kI8 ? RETORT_KERNELS_KV_INT8 : RETORT_KERNELS_KV_F32;
}

int64_t GradientBytes(const graph::Graph& graph, int32_t adapter) {
  int64_t bytes = 0;
  for (const graph::Param& param : graph.params) {
    if (IsTrained(param, adapter)) bytes += Padded(param.numel() * kFloat);
  }
  return bytes;
}

}  // namespace

int64_t WeightBytes(const graph::Graph& graph, std::span<const DType> dtypes) {
  int64_t bytes = 0;
  for (size_t p = 0; p < graph.params.size(); ++p) {
    const DType dtype = dtypes.empty() ? DType::kF32 : dtypes[p];
    bytes += Padded(model::StoredBytes(dtype, graph.params[p].shape));
  }
  return bytes;
}

MemoryEstimate EstimateTraining(const graph::Graph& graph, const TrainMemory& work) {
  const int64_t labels = work.label_tokens > 0 ? work.label_tokens : work.tokens;
  const int64_t longest = work.longest > 0 ? work.longest : work.tokens;
  MemoryEstimate estimate;
  estimate.weights = WeightBytes(graph, work.dtypes);
  estimate.gradients = GradientBytes(graph, work.adapter);
  estimate.optimizer = work.state_bytes.value_or(2 * estimate.gradients);
  estimate.head = HeadBytes(graph, labels, work.head_rows, work.n_losses);
  const Plan plan = PlanFor(graph, {.mode = Mode::kTraining,
                                    .adapter = work.adapter,
                                    .recompute = std::clamp(work.recompute, 0, kRecomputeMost)});
  if (work.micro_batches == 1 && !IsDisabled("arena")) {
    const GradientSpace space = PlaceGradients(graph, DType::kF32, work.adapter);
    estimate.activations =
        LayOut(graph, plan, space, PaddedRows(work.tokens), estimate.head / kFloat).own * kFloat;
    estimate.head = 0;
  } else {
    estimate.activations = ArenaElements(plan, PaddedRows(work.tokens)) * kFloat;
  }
  estimate.activations +=
      AttentionScratch(graph, longest, work.n_threads) + kBlasBytesPerThread * work.n_threads;
  estimate.process = kProcessBytes + kLibTorchBytes;
  if (work.teacher != nullptr) {
    const graph::Graph& teacher = *work.teacher;
    const int64_t chunk = HeadChunkRows(labels, graph.vocab(), DType::kF32, work.head_rows);
    estimate.teacher = WeightBytes(teacher, work.teacher_dtypes) +
                       ArenaBytes(teacher, {.mode = Mode::kInference}, work.tokens) +
                       chunk * (teacher.vocab() + teacher.width()) * kFloat;
  }
  return estimate;
}

int64_t KvBlockBytes(const graph::Graph& graph, DType kv_dtype) {
  int64_t bytes = 0;
  for (const graph::Node& node : graph.nodes) {
    if (node.op != graph::Op::kAttention) continue;
    bytes += 2 * node.attention.n_kv_heads *
             retort_kv_head_bytes(KvType(kv_dtype), node.attention.head_dim);
  }
  return bytes;
}

MemoryEstimate EstimateDecoding(const graph::Graph& graph, const DecodeMemory& work) {
  MemoryEstimate estimate;
  estimate.weights = WeightBytes(graph, work.dtypes);
  const int64_t rows = std::max(work.slots, work.pass_tokens);
  estimate.activations = ArenaBytes(graph, {.mode = Mode::kInference}, rows);
  estimate.cache = work.kv_blocks * KvBlockBytes(graph, work.kv_dtype);
  estimate.head = work.slots * (graph.vocab() + graph.width()) * kFloat;
  estimate.process = kProcessBytes;
  return estimate;
}

int32_t ChooseRecompute(const graph::Graph& graph, TrainMemory work, int64_t limit) {
  if (limit <= 0) limit = MemoryAllowed();
  for (work.recompute = 0; work.recompute < kRecomputeMost; ++work.recompute) {
    if (limit <= 0 || EstimateTraining(graph, work).total() <= limit) break;
  }
  return work.recompute;
}

}  // namespace retort::engine
