// libretort_engine's factory: the concrete Engine and Model behind core/engine/engine.h. The one
// exported symbol is retort_engine_create.
// SPDX-License-Identifier: Apache-2.0
#include <future>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/base/threads.h"
#include "core/engine/edge.h"
#include "core/engine/engine.h"
#include "core/engine/inference.h"
#include "core/engine/score.h"
#include "core/generate/generator.h"
#include "core/model/params.h"
#include "core/model/peft.h"
#include "core/ops/blas.h"
#include "core/train/param_groups.h"
#include "core/train/trainer.h"
#include "retort/kernels/level.h"

namespace retort::engine {
namespace {

class ModelImpl final : public Model {
 public:
  ModelImpl(graph::Graph graph, model::ParamStore store, model::StorageReport storage,
            int n_threads)
      : graph_(std::move(graph)),
        store_(std::move(store)),
        storage_(std::move(storage)),
        n_threads_(n_threads),
        inference_(graph_, store_.views(), n_threads) {}

  const graph::Graph& graph() const override { return graph_; }
  Inference& inference() override { return inference_; }

  Result<std::vector<ScoreResult>> Score(std::span<const ScoreRequest> requests, int64_t max_tokens,
                                         const Cancel* cancel,
                                         const std::function<void(int64_t)>& on_progress) override {
    return Guarded("scoring", [&] {
      const ThreadScope threads(n_threads_);
      return engine::Score(inference_, graph_, store_.views(), requests, max_tokens, cancel,
                           on_progress, n_threads_);
    });
  }

  Result<GenerateStats> Generate(std::span<const GenerateRequest> requests,
                                 const GenerateOptions& options) override {
    return Guarded("generating", [&] {
      const ThreadScope threads(n_threads_);
      inference_.SetAdapter(options.adapter);
      return generate::Generate(inference_, graph_, requests, options, n_threads_);
    });
  }

  Result<std::unique_ptr<Trainer>> NewTrainer(const TrainerOptions& options) override {
    return train::MakeTrainer(graph_, store_.views(), options, n_threads_);
  }

  std::vector<StateTensor> Params() override {
    std::vector<StateTensor> params;
    for (size_t i = 0; i < store_.size(); ++i) {
      params.push_back({graph_.params[i].name, store_.view(i)});
    }
    return params;
  }

  int64_t weight_bytes() const override { return store_.bytes(); }
  const model::StorageReport& storage() const override { return storage_; }

 private:
  const graph::Graph graph_;
  model::ParamStore store_;
  const model::StorageReport storage_;
  const int n_threads_;
  Inference inference_;
};

// Each adapter of the graph from its folder, or by its init rules.
Status FillAdapters(const graph::Graph& graph, const LoadOptions& options,
                    std::span<const TensorView> params) {
  if (options.adapters.size() > graph.adapters.size()) {
    return InvalidArgument(std::to_string(options.adapters.size()) + " adapter folders for " +
                           std::to_string(graph.adapters.size()) + " adapters");
  }
  for (size_t i = 0; i < graph.adapters.size(); ++i) {
    const auto index = static_cast<int32_t>(i);
    const std::string folder = i < options.adapters.size() ? options.adapters[i] : "";
    const Status filled = folder.empty()
                              ? model::InitAdapter(graph, index, options.init_seed, params)
                              : model::LoadAdapter(folder, graph, index, params);
    RETORT_RETURN_IF_ERROR(filled);
  }
  return OkStatus();
}

class EngineImpl final : public Engine {
 public:
  explicit EngineImpl(int32_t n_threads) : n_threads_(n_threads) {}

  EngineInfo Info() const override {
    return {.libtorch_version = LibTorchVersion(),
            .cpu_capability = CpuCapability(),
            .kernel_level = retort_kernels_level_name(retort_kernels_level()),
            .n_threads = n_threads_};
  }

  Result<std::unique_ptr<Model>> Load(const model::Source& source, graph::Graph graph,
                                      const LoadOptions& options) override {
    return Guarded("loading " + source.path(), [&]() -> Result<std::unique_ptr<Model>> {
      const ThreadScope threads(n_threads_);
      RETORT_RETURN_IF_ERROR(Freeze(graph, options));
      std::future<void> blas = OpenBlasBeside(options);
      model::FollowStacks(source, graph);
      const model::StoragePlan plan = PlanFor(graph, options, &source);
      RETORT_ASSIGN_OR_RETURN(model::ParamStore store,
                              model::ParamStore::Allocate(graph, plan.dtypes));
      RETORT_RETURN_IF_ERROR(
          model::LoadParams(source, graph, store, n_threads_, options.init_seed));
      RETORT_RETURN_IF_ERROR(FillAdapters(graph, options, store.views()));
      if (blas.valid()) blas.get();
      return Wrap(std::move(graph), std::move(store), plan);
    });
  }

  Result<std::unique_ptr<Model>> Create(graph::Graph graph, const LoadOptions& options) override {
    return Guarded("creating a model", [&]() -> Result<std::unique_ptr<Model>> {
      RETORT_RETURN_IF_ERROR(Freeze(graph, options));
      const model::StoragePlan plan = PlanFor(graph, options, nullptr);
      RETORT_ASSIGN_OR_RETURN(model::ParamStore store,
                              model::ParamStore::Allocate(graph, plan.dtypes));
      RETORT_RETURN_IF_ERROR(model::InitParams(graph, options.init_seed, store, n_threads_));
      RETORT_RETURN_IF_ERROR(FillAdapters(graph, options, store.views()));
      return Wrap(std::move(graph), std::move(store), plan);
    });
  }

 private:
  static Status Freeze(graph::Graph& graph, const LoadOptions& options) {
    if (!options.for_training) return OkStatus();
    return train::FreezeParams(graph, options.trainable, options.frozen);
  }

  // Training multiplies many rows of floats for certain: LibTorch opens while weights are read.
  static std::future<void> OpenBlasBeside(const LoadOptions& options) {
    if (!options.for_training) return {};
    return std::async(std::launch::async, [] { ops::OpenBlas(); });
  }

  static model::StoragePlan PlanFor(const graph::Graph& graph, const LoadOptions& options,
                                    const model::Source* source) {
    return model::PlanStorage(
        graph, {.storage = options.storage, .for_training = options.for_training}, source);
  }

  std::unique_ptr<Model> Wrap(graph::Graph graph, model::ParamStore store,
                              const model::StoragePlan& plan) const {
    model::StorageReport report = model::ReportStorage(graph, plan);
    return std::make_unique<ModelImpl>(std::move(graph), std::move(store), std::move(report),
                                       n_threads_);
  }

  const int32_t n_threads_;
};

}  // namespace
}  // namespace retort::engine

// NULL only if the process is out of memory.
extern "C" __attribute__((visibility("default"))) retort::engine::Engine* retort_engine_create(
    const retort::engine::EngineOptions* options) {
  using retort::engine::EngineImpl;
  EngineImpl* made = nullptr;
  const retort::Status status = retort::engine::Guarded("opening the engine", [&] {
    const int32_t n_threads = retort::ResolveThreads(options->n_threads);
    made = new EngineImpl(n_threads);
    return retort::OkStatus();
  });
  return status.ok() ? made : nullptr;
}
