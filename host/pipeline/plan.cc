// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/plan.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "core/data/record.h"
#include "core/graph/value_head.h"
#include "core/json/json.h"
#include "core/model/storage.h"
#include "core/train/param_groups.h"
#include "core/train/schedule.h"
#include "core/train/state_specs.h"
#include "host/chain/filter_chain.h"
#include "host/chain/reward_chain.h"
#include "host/pipeline/artifact.h"
#include "host/pipeline/plan_memory.h"
#include "host/pipeline/plan_requests.h"
#include "host/pipeline/plugin_files.h"
#include "host/pipeline/stage_data.h"
#include "host/pipeline/stage_heads.h"
#include "host/pipeline/stage_lora.h"
#include "host/pipeline/stage_models.h"
#include "host/pipeline/stage_policy.h"
#include "host/pipeline/stage_rewards.h"
#include "host/pipeline/stage_teacher.h"
#include "host/plugin/lock.h"

namespace retort::host {

const PlannedStage* Plan::Find(std::string_view name) const {
  for (const PlannedStage& stage : stages) {
    if (stage.stage->name == name) return &stage;
  }
  return nullptr;
}

namespace {

// What a plugin's id or config got wrong was written by the user.
Status AsUsage(const Status& status, const std::string& context) {
  const bool usage = status.code() == Code::kNotFound || status.code() == Code::kInvalidArgument;
  return Status(usage ? Code::kInvalidArgument : status.code(), status.message())
      .WithContext(context);
}

// What a file got wrong was not written in the pipeline file.
Status AsFileFault(const Status& status, const std::string& context) {
  const bool usage = status.code() == Code::kInvalidArgument;
  return Status(usage ? Code::kFailedPrecondition : status.code(), status.message())
      .WithContext(context);
}

class Planner {
 public:
  Planner(Session& session, PipelineConfig& config) : session_(session), config_(config) {}

  Result<Plan> Make() {
    RETORT_RETURN_IF_ERROR(session_.EnsurePlugins());
    for (const std::string& path : config_.plugins) {
      const Status loaded = session_.plugins().LoadFile(path, LockBeside(config_.file));
      if (!loaded.ok()) return AsFileFault(loaded, config_.file + ": plugins");
    }
    RETORT_RETURN_IF_ERROR(AnchorPluginFiles(session_.plugins(), &config_));
    for (const auto& [name, data] : config_.data) {
      if (!data.source) continue;
      RETORT_RETURN_IF_ERROR(
          CheckUse(config_.file + ": data." + name + ".source", "source", *data.source));
    }
    for (const StageConfig& stage : config_.stages) {
      PlannedStage planned = {.stage = &stage};
      RETORT_RETURN_IF_ERROR(CheckPlugins(stage));
      RETORT_RETURN_IF_ERROR(AddModels(stage, &planned));
      RETORT_RETURN_IF_ERROR(AddData(stage, &planned));
      RETORT_RETURN_IF_ERROR(CheckHeads(stage));
      RETORT_RETURN_IF_ERROR(EstimateMemory(stage, &planned));
      plan_.stages.push_back(std::move(planned));
    }
    return std::move(plan_);
  }

 private:
  std::string Place(const StageConfig& stage, const std::string& key) const {
    return config_.file + ": stages." + stage.name + "." + key;
  }

  Status CheckChain(const ChainConfig& chain, bool filters) {
    RETORT_ASSIGN_OR_RETURN(const json::Document entries, ChainEntriesOf(chain, config_, ""));
    const Status status =
        filters ? FilterChain::Create(session_, entries.root(), {}, chain.key_path).status()
                : RewardChain::Create(session_, entries.root(), {}, chain.key_path).status();
    return status.ok() ? status : AsUsage(status, config_.file);
  }

  Status CheckPlugin(const StageConfig& stage, const std::string& key, const std::string& kind,
                     const std::string& id, const std::string& plugin_config) {
    const Status status = session_.plugins().Create(kind, id, plugin_config, {}).status();
    return status.ok() ? status : AsUsage(status, Place(stage, key));
  }

  Status CheckUse(const std::string& place, const std::string& kind, const PluginUse& use) {
    const Status status = session_
                              .CreatePlugin(kind, use.plugin, use.config, {},
                                            {.isolate = use.isolate, .timeout_ms = use.timeout_ms})
                              .status();
    return status.ok() ? status : AsUsage(status, place);
  }

  Status CheckPlugins(const StageConfig& stage) {
    if (stage.generate.generator) {
      return CheckUse(Place(stage, "generator"), "generator", stage.generate.generator->plugin);
    }
    if (stage.kind == StageKind::kFilter) return CheckChain(stage.filter.filters, true);
    if (stage.kind == StageKind::kGrpo) {
      RETORT_RETURN_IF_ERROR(CheckChain(stage.grpo.rewards, false));
    }
    for (const EvalTask& task : stage.eval.tasks) {
      RETORT_RETURN_IF_ERROR(CheckChain(task.rewards, false));
    }
    const TrainingConfig* train = stage.training();
    if (train == nullptr) return OkStatus();
    if (train->evaluation.task) {
      RETORT_RETURN_IF_ERROR(CheckChain(train->evaluation.task->rewards, false));
    }
    for (const LossEntry& loss : train->losses) {
      RETORT_RETURN_IF_ERROR(CheckPlugin(stage, "loss", "loss", loss.plugin, loss.config));
    }
    if (stage.kind == StageKind::kDistill) {
      const Status wants = CheckDistillLosses(session_, stage);
      if (!wants.ok()) return AsUsage(wants, Place(stage, "loss"));
    }
    if (stage.kind == StageKind::kGrpo) {
      const Status wants = WantsOfPolicy(session_, stage).status();
      if (!wants.ok()) return AsUsage(wants, Place(stage, "loss"));
    }
    return CheckPlugin(stage, "optimizer", "optimizer", train->optimizer, train->optimizer_config);
  }

  Result<PlannedModel> LookAt(const ModelRef& ref, const StageConfig& stage) {
    if (!ref.stage.empty()) {  // its weights come later; its shape is the base's
      PlannedModel model = plan_.Find(ref.stage)->models.front();
      model.label = ref.text;
      return model;
    }
    const std::string key = ref.model.path + '\0' + ref.model.adapter;
    if (const auto found = models_.find(key); found != models_.end()) {
      PlannedModel model = found->second;
      model.label = ref.text;
      return model;
    }
    const std::string place = Place(stage, "model '" + ref.text + "'");
    Result<OpenedModel*> opened = Open(ref);
    if (!opened.ok()) return AsFileFault(opened.status(), place);
    const Result<graph::Graph> graph = session_.BuildGraph(
        *(*opened)->source, AdaptersOf(**opened, std::nullopt), Heads::kAsSaved);
    if (!graph.ok()) return AsFileFault(graph.status(), place);
    PlannedModel model = {.label = ref.text,
                          .path = ref.model.path,
                          .family = graph->family,
                          .n_params = graph->n_params(),
                          .n_layers = graph->n_layers};
    models_[key] = model;
    return model;
  }

  // What stands beside a model: its own adapter, or the one that a stage trains.
  static std::vector<AdapterUse> AdaptersOf(const OpenedModel& opened,
                                            const std::optional<graph::LoraSpec>& trained) {
    if (opened.adapter) return {UseOf(*opened.adapter)};
    if (trained) return {AdapterUse{.spec = *trained}};
    return {};
  }

  Result<OpenedModel*> Open(const ModelRef& ref) { return OpenConfigured(session_, ref.model); }

  // That the adapter to be trained fits the model; of a stage's model that is seen once it is
  // there.
  Status CheckTrained(const StageConfig& stage) {
    const TrainingConfig& train = *stage.training();
    const ModelRef& ref = train.model;
    if (!ref.stage.empty()) return OkStatus();
    RETORT_ASSIGN_OR_RETURN(const OpenedModel* opened, Open(ref));
    if (!train.lora) return AsUsage(CheckTrainedWhole(*opened), Place(stage, "model"));
    return AsUsage(TrainedAdapter(session_, *opened, *train.lora).status(), Place(stage, "lora"));
  }

  // The teacher's distributions are over the student's tokens.
  Status CheckTeacher(const StageConfig& stage) {
    RETORT_ASSIGN_OR_RETURN(const OpenedModel* student, Open(RootOf(stage.sft.model)));
    RETORT_ASSIGN_OR_RETURN(const OpenedModel* teacher, Open(RootOf(stage.distill.teacher)));
    return AsUsage(CheckSameTokenizer(*student, *teacher), Place(stage, "teacher"));
  }

  Status AddModels(const StageConfig& stage, PlannedStage* planned) {
    for (const auto& refs : {stage.Models(), stage.RewardModels()}) {
      for (const ModelRef* ref : refs) {
        RETORT_ASSIGN_OR_RETURN(PlannedModel model, LookAt(*ref, stage));
        planned->models.push_back(std::move(model));
      }
    }
    if (stage.training() != nullptr) RETORT_RETURN_IF_ERROR(CheckTrained(stage));
    if (stage.kind == StageKind::kDistill) RETORT_RETURN_IF_ERROR(CheckTeacher(stage));
    if (!stage.filter.tokenizer || !stage.filter.tokenizer->stage.empty()) return OkStatus();
    return LookAt(*stage.filter.tokenizer, stage).status();
  }

  // Records of a list of data entries, and whether a filter may make them fewer.
  Result<int64_t> Count(const std::vector<DataRef>& refs, int64_t limit, bool* at_most) {
    int64_t total = 0;
    for (const DataRef& ref : refs) {
      int64_t n = 0;
      if (const PlannedStage* from = ref.stage.empty() ? nullptr : plan_.Find(ref.stage)) {
        n = from->samples_out;
        *at_most = *at_most || from->at_most || from->stage->kind == StageKind::kFilter;
        if (ref.limit > 0) n = std::min(n, ref.limit);
      } else {
        Result<std::vector<StageData>> data = LoadData(session_, config_, {ref}, 0, "");
        if (!data.ok()) return AsFileFault(data.status(), config_.file);
        n = static_cast<int64_t>(data->front().size());
      }
      total += n;
    }
    return limit > 0 ? std::min(limit, total) : total;
  }

  Status AddData(const StageConfig& stage, PlannedStage* planned) {
    bool* at_most = &planned->at_most;
    if (const TrainingConfig* train = stage.training()) {
      const EvaluationConfig& e = train->evaluation;
      bool ignored = false;
      RETORT_RETURN_IF_ERROR(Count(e.data, 0, &ignored).status());
      if (e.task) RETORT_RETURN_IF_ERROR(Count(e.task->data, e.task->limit, &ignored).status());
    }
    switch (stage.kind) {
      case StageKind::kGenerate: {
        const GenerateStage& g = stage.generate;
        RETORT_ASSIGN_OR_RETURN(planned->records, Count(g.data, g.limit, at_most));
        planned->samples_out = planned->records * g.samples;
        return OkStatus();
      }
      case StageKind::kFilter: {
        const FilterStage& f = stage.filter;
        RETORT_ASSIGN_OR_RETURN(planned->records, Count(f.data, f.limit, at_most));
        planned->samples_out = planned->records;
        return OkStatus();
      }
      case StageKind::kSft:
      case StageKind::kDistill:
      case StageKind::kRewardModel: {
        const SftStage& s = stage.sft;
        RETORT_ASSIGN_OR_RETURN(planned->records, Count(s.data, s.limit, at_most));
        return OkStatus();
      }
      case StageKind::kGrpo: {
        const GrpoStage& g = stage.grpo;
        RETORT_ASSIGN_OR_RETURN(planned->records, Count(g.data, g.limit, at_most));
        if (!g.cold_start) return OkStatus();
        bool fewer = false;  // examples are found or found missing here, and not shown
        return Count(g.cold_start->data, g.cold_start->limit, &fewer).status();
      }
      case StageKind::kEval: break;
    }
    for (const EvalTask& task : stage.eval.tasks) {
      RETORT_ASSIGN_OR_RETURN(const int64_t n, Count(task.data, task.limit, at_most));
      planned->records += n * static_cast<int64_t>(stage.eval.models.size());
      planned->samples_out += n * task.samples * static_cast<int64_t>(stage.eval.models.size());
    }
    return OkStatus();
  }

  // The model that a chain of stages starts from.
  const ModelRef& RootOf(const ModelRef& ref) const {
    return ref.stage.empty() ? ref : RootOf(plan_.Find(ref.stage)->stage->training()->model);
  }

  // What the stage's optimizer keeps for the params that it trains.
  Result<int64_t> OptimizerBytes(const TrainingConfig& train, const graph::Graph& graph) {
    RETORT_ASSIGN_OR_RETURN(
        const PluginInstance instance,
        session_.plugins().Create("optimizer", train.optimizer, train.optimizer_config, {}));
    const auto* table =
        static_cast<const retort_optimizer_v1*>(instance.interface(RETORT_OPTIMIZER_INTERFACE));
    if (table == nullptr) {
      return FailedPrecondition("plugin optimizer/" + train.optimizer + " has no interface " +
                                RETORT_OPTIMIZER_INTERFACE);
    }
    const engine::Optimizer optimizer = {
        .name = train.optimizer, .table = table, .instance = instance.get()};
    const int32_t adapter = train.lora ? static_cast<int32_t>(graph.adapters.size()) - 1 : -1;
    return train::StateBytes(optimizer, graph, adapter);
  }

  // A model as the stage keeps it in memory; `trained`: with the adapter that the stage trains.
  Result<SizedModel> SizeOf(const StageConfig& stage, const ModelRef& ref, bool trained) {
    const ModelRef& root = RootOf(ref);
    RETORT_ASSIGN_OR_RETURN(const OpenedModel* opened, Open(root));
    SizedModel model;
    Heads heads = trained ? HeadsOf(stage) : Heads::kAsSaved;
    if (heads == Heads::kAsSaved) heads = HeadsOf(ref, config_);
    const auto lora = trained ? stage.training()->lora : std::nullopt;
    RETORT_ASSIGN_OR_RETURN(model.graph,
                            session_.BuildGraph(*opened->source, AdaptersOf(*opened, lora), heads));
    RETORT_ASSIGN_OR_RETURN(model::Storage storage, model::ParseStorage(root.model.storage));
    // What a stage writes is f32.
    if (!ref.stage.empty() && storage == model::Storage::kAuto) storage = model::Storage::kF32;
    if (trained) {
      const TrainingConfig& train = *stage.training();
      const bool values = stage.kind == StageKind::kGrpo && stage.grpo.algorithm == "ppo";
      if (values && model.graph.value_head < 0) {
        RETORT_RETURN_IF_ERROR(graph::AddValueHead(model.graph));
      }
      RETORT_RETURN_IF_ERROR(train::FreezeParams(model.graph, train.trainable, train.frozen));
      RETORT_ASSIGN_OR_RETURN(model.optimizer_bytes, OptimizerBytes(train, model.graph));
    }
    const GrpoStage& policy = stage.grpo;
    if (policy.sync_ref_model && !trained) storage = model::Storage::kF32;  // it is written to
    model.dtypes = model::PlanStorage(model.graph, {.storage = storage, .for_training = trained},
                                      opened->source.get())
                       .dtypes;
    return model;
  }

  // That its models have the heads that its work, its losses and its rewards need.
  Status CheckHeads(const StageConfig& stage) {
    const auto at = [&](const ModelRef& ref) { return Place(stage, "model '" + ref.text + "'"); };
    for (const ModelRef* ref : stage.Models()) {
      const bool trained = stage.training() != nullptr && ref == &stage.training()->model;
      const Result<SizedModel> model = SizeOf(stage, *ref, trained);
      if (!model.ok()) return AsFileFault(model.status(), at(*ref));
      if (!trained || stage.kind != StageKind::kRewardModel) {
        RETORT_RETURN_IF_ERROR(
            AsFileFault(graph::CheckHasLmHead(model->graph, "stage " + stage.name), at(*ref)));
      }
      if (!trained) continue;
      const Status losses = CheckLossHeads(session_, stage, model->graph);
      if (!losses.ok()) return AsUsage(losses, Place(stage, "loss"));
    }
    for (const ModelRef* ref : stage.RewardModels()) {
      const Result<SizedModel> model = SizeOf(stage, *ref, false);
      const Status status = model.ok() ? graph::CheckHasValueHead(model->graph) : model.status();
      if (!status.ok()) return AsFileFault(status, at(*ref));
    }
    return OkStatus();
  }

  // Bytes at the peak of the stage's work with one of its models; of training, also the level of
  // recomputation.
  Result<int64_t> BytesOf(const StageConfig& stage, const ModelRef& ref, PlannedStage* planned) {
    const TrainingConfig* train = stage.training();
    const bool trains = train != nullptr && &ref == &train->model;
    RETORT_ASSIGN_OR_RETURN(const SizedModel model, SizeOf(stage, ref, trains));
    if (stage.kind == StageKind::kDistill) {
      RETORT_ASSIGN_OR_RETURN(const SizedModel teacher,
                              SizeOf(stage, stage.distill.teacher, false));
      RETORT_ASSIGN_OR_RETURN(
          const int64_t bytes,
          DistillBytes(stage, model, teacher, session_.n_threads(), &planned->recompute));
      RETORT_ASSIGN_OR_RETURN(const int64_t answers, AnswerBytes(*train, model));
      return bytes + answers;
    }
    if (trains) {
      const bool policy = stage.kind == StageKind::kGrpo;
      const int32_t threads = session_.n_threads();
      const engine::TrainMemory work =
          policy ? GrpoWork(stage.grpo, model, threads) : SftWork(stage.sft, model, threads);
      planned->recompute = work.recompute;
      const int64_t bytes = engine::EstimateTraining(model.graph, work).total();
      RETORT_ASSIGN_OR_RETURN(const int64_t answers, AnswerBytes(*train, model));
      if (!policy) return bytes + answers;
      RETORT_ASSIGN_OR_RETURN(const int64_t reference, OwnReferenceBytes(stage));
      const int64_t rollouts = RolloutBytes(stage.grpo, model.graph, model.dtypes);
      return bytes + reference + std::max(rollouts, answers);
    }
    if (train != nullptr) return engine::WeightBytes(model.graph, model.dtypes);  // of a reference
    RETORT_ASSIGN_OR_RETURN(OpenedModel * opened, Open(RootOf(ref)));
    return DecodeBytes(stage, {.label = ref.text, .opened = opened}, model.graph, model.dtypes,
                       planned->records);
  }

  // Keys and values of the answers that evaluations within training ask for.
  Result<int64_t> AnswerBytes(const TrainingConfig& train, const SizedModel& model) {
    if (!train.evaluation.task) return 0;
    const EvalTask& task = *train.evaluation.task;
    RETORT_ASSIGN_OR_RETURN(OpenedModel * opened, Open(RootOf(train.model)));
    RETORT_ASSIGN_OR_RETURN(
        const PlannedRequests planned,
        RequestsOfTask(session_, config_, task, {.label = train.model.text, .opened = opened},
                       task.decoding.max_batch));
    RETORT_ASSIGN_OR_RETURN(
        const engine::MemoryEstimate estimate,
        EstimateDecode(planned.options, planned.requests, model.graph, model.dtypes));
    return estimate.cache;
  }

  // Of a reference that is the model as the stage begins.
  Result<int64_t> OwnReferenceBytes(const StageConfig& stage) {
    const GrpoStage& config = stage.grpo;
    if (config.reference || config.lora) return 0;
    RETORT_ASSIGN_OR_RETURN(const PolicyWants wants, WantsOfPolicy(session_, stage));
    if (!wants.reference) return 0;
    RETORT_ASSIGN_OR_RETURN(const SizedModel model, SizeOf(stage, config.model, false));
    return engine::WeightBytes(model.graph, model.dtypes);
  }

  Result<int64_t> DecodeBytes(const StageConfig& stage, const StageModel& model,
                              const graph::Graph& graph, std::span<const DType> dtypes,
                              int64_t records) {
    std::vector<Result<PlannedRequests>> all;
    if (stage.kind == StageKind::kGenerate) {
      all.push_back(RequestsOfStage(session_, config_, stage.generate, model, records));
    }
    for (const EvalTask& task : stage.eval.tasks) {
      all.push_back(RequestsOfTask(session_, config_, task, model, records));
    }
    int64_t most = 0;
    for (const Result<PlannedRequests>& planned : all) {
      RETORT_RETURN_IF_ERROR(planned.status());
      RETORT_ASSIGN_OR_RETURN(const engine::MemoryEstimate estimate,
                              EstimateDecode(planned->options, planned->requests, graph, dtypes));
      most = std::max(most, estimate.total());
    }
    return most;
  }

  // Models of a stage are in memory one after the other, but for those beside one being trained.
  Status EstimateMemory(const StageConfig& stage, PlannedStage* planned) {
    const TrainingConfig* train = stage.training();
    double beside = 0;  // of models that stay while another is trained
    for (const ModelRef* ref : stage.Models()) {
      if (ref == &stage.distill.teacher) continue;  // counted with its student
      const Result<int64_t> bytes = BytesOf(stage, *ref, planned);
      if (!bytes.ok()) {
        return AsFileFault(bytes.status(), Place(stage, "model '" + ref->text + "'"));
      }
      const auto used = static_cast<double>(*bytes);
      if (train != nullptr && ref != &train->model) {
        beside += used;
      } else {
        planned->memory_bytes = std::max(planned->memory_bytes, used);
      }
    }
    for (const ModelRef* ref : stage.RewardModels()) {
      RETORT_ASSIGN_OR_RETURN(const SizedModel scores, SizeOf(stage, *ref, false));
      beside += static_cast<double>(engine::WeightBytes(scores.graph, scores.dtypes));
    }
    planned->memory_bytes += beside;
    return OkStatus();
  }

  Session& session_;
  PipelineConfig& config_;
  Plan plan_;
  std::map<std::string, PlannedModel> models_;  // by path
};

}  // namespace

Result<Plan> MakePlan(Session& session, PipelineConfig& config) {
  return Planner(session, config).Make();
}

}  // namespace retort::host
