// Estimates of memory against what processes really took: each case runs in a child of its own,
// and its peak is the resident set's (VmHWM). The test itself starts no thread.
// SPDX-License-Identifier: Apache-2.0
#include "core/engine/memory.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <functional>

#include "core/base/system_memory.h"
#include "core/engine/edge.h"
#include "core/engine/inference.h"
#include "core/graph/lora.h"
#include "core/model/params.h"
#include "core/ops/gemm.h"
#include "core/train/trainer.h"
#include "tests/unit/engine/tiny_model.h"

namespace retort::engine::test {
namespace {

constexpr int kThreads = 2;
constexpr double kTolerance = 0.10;

// About 15 million weights, so that what is estimated dwarfs what a process has anyway.
constexpr TinySpec kSpec{.layers = 4,
                         .width = 384,
                         .heads = 8,
                         .kv_heads = 4,
                         .head_dim = 48,
                         .hidden = 1024,
                         .vocab = 16000};
constexpr int32_t kTokens = 640;

// What `work` adds to the peak of a child that has run nothing but a product before.
int64_t PeakOf(const std::function<bool()>& work) {
  int ends[2];
  if (pipe(ends) != 0) return -1;
  const pid_t child = fork();
  if (child == 0) {
    SetThreads(kThreads);
    std::vector<double> a(1 << 16, 1), c(1 << 16);  // such go to the BLAS everywhere: it opens
    const auto view = [](std::vector<double>& v) {
      return TensorView::Contiguous(v.data(), DType::kF64, {256, 256});
    };
    ops::Gemm(view(a), ops::Transpose::kNo, view(a), ops::Transpose::kNo, view(c), false);
    const int64_t before = PeakResidentBytes();
    const int64_t grown = work() ? PeakResidentBytes() - before : -1;
    const bool written = write(ends[1], &grown, sizeof grown) == sizeof grown;
    _exit(written ? 0 : 1);
  }
  int64_t grown = -1;
  close(ends[1]);
  if (read(ends[0], &grown, sizeof grown) != sizeof grown) grown = -1;
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return grown;
}

// Two states of f32 for every weight, as AdamW has them; a step writes both.
retort_status TwoStates(retort_instance*, const retort_call*, const retort_param_info*,
                        const retort_optimizer_spec** out) {
  static const auto state = [](const char* name) {
    return retort_state_spec{.name = name,
                             .dtype = RETORT_STATE_F32,
                             .shape = RETORT_STATE_SHAPE_AS_PARAM,
                             .init = RETORT_STATE_INIT_CONSTANT,
                             .ndim = 0,
                             .init_value = 0,
                             .block = 0,
                             .dims = nullptr};
  };
  static const retort_state_spec kStates[2] = {state("m"), state("v")};
  static const retort_optimizer_spec kOptimizer = {.struct_size = sizeof(retort_optimizer_spec),
                                                   .flags = 0,
                                                   .grain = RETORT_GRAIN_ELEMENTWISE,
                                                   .n_states = 2,
                                                   .states = kStates,
                                                   .state_stride = sizeof(retort_state_spec)};
  *out = &kOptimizer;
  return RETORT_OK;
}
retort_status Step(retort_instance*, const retort_call*, const retort_optimizer_args* args) {
  for (uint64_t i = 0; i < args->n; ++i) {
    const retort_optimizer_tensor& t = args->tensors[i];
    for (uint64_t s = 0; s < 2; ++s) {
      std::fill_n(static_cast<float*>(t.states[s]->data), t.param->shape[0], 1.0F);
    }
  }
  return RETORT_OK;
}

bool Train(graph::Graph graph, int32_t level, int32_t adapter) {
  static const retort_optimizer_v1 kTable = {.struct_size = sizeof(retort_optimizer_v1),
                                             .flags = 0,
                                             .spec = TwoStates,
                                             .step = Step,
                                             .save = nullptr,
                                             .load = nullptr};
  auto store = model::ParamStore::Allocate(graph);
  if (!store.ok()) return false;
  for (size_t p = 0; p < graph.params.size(); ++p) {
    std::fill_n(store->data(p), graph.params[p].numel(), 0.01F);
  }
  TrainerOptions options;
  options.losses = {CrossEntropy()};
  options.optimizer = {.name = "two", .table = &kTable, .instance = nullptr};
  options.recompute = level;
  options.adapter = adapter;
  auto trainer = train::MakeTrainer(graph, store->views(), options, kThreads);
  if (!trainer.ok()) return false;
  const std::vector<MicroBatch> window = {Documents({kTokens / 2, kTokens / 2}, kSpec.vocab)};
  return (*trainer)->Step(window, 0.1, 0, nullptr).ok() &&
         (*trainer)->Step(window, 0.1, 1, nullptr).ok();
}

void ExpectNear(int64_t measured, const MemoryEstimate& estimate) {
  const auto want = static_cast<double>(estimate.total() - estimate.process);
  EXPECT_NEAR(static_cast<double>(measured), want, kTolerance * want)
      << "weights " << estimate.weights << " gradients " << estimate.gradients << " optimizer "
      << estimate.optimizer << " activations " << estimate.activations << " head " << estimate.head;
}

TEST(Memory, TrainingTakesWhatWasEstimatedAtEveryRecomputeLevel) {
  int64_t last = 0;
  for (int32_t level = 0; level <= 2; ++level) {
    const graph::Graph graph = TinyFamily(kSpec).Build();
    const MemoryEstimate estimate =
        EstimateTraining(graph, {.tokens = kTokens, .recompute = level, .n_threads = kThreads});
    const int64_t measured = PeakOf([&] { return Train(TinyFamily(kSpec).Build(), level, -1); });
    ExpectNear(measured, estimate);
    if (level > 0) {
      EXPECT_LT(measured, last);
    }
    last = measured;
  }
}

TEST(Memory, AnAdapterTakesWhatWasEstimated) {
  const auto build = [] {
    graph::Graph graph = TinyFamily(kSpec).Build();
    const Status added = graph::AddLora(graph, {.name = "a", .r = 16});
    EXPECT_TRUE(added.ok()) << added.ToString();
    return graph;
  };
  const graph::Graph graph = build();
  const MemoryEstimate estimate =
      EstimateTraining(graph, {.tokens = kTokens, .adapter = 0, .n_threads = kThreads});
  EXPECT_LT(estimate.gradients, estimate.weights / 10);
  ExpectNear(PeakOf([&] { return Train(build(), 0, 0); }), estimate);
}

TEST(Memory, AllowedIsSomeButNotMoreThanAMachineHas) {
  EXPECT_GT(MemoryAllowed(), int64_t{1} << 20);
  EXPECT_LT(MemoryAllowed(), int64_t{1} << 50);
}

}  // namespace
}  // namespace retort::engine::test
