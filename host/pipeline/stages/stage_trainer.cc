// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stages/stage_trainer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/fault.h"
#include "core/checkpoint/manifest.h"
#include "core/json/json.h"
#include "core/model/params.h"
#include "core/model/peft.h"
#include "host/pipeline/plan_memory.h"
#include "host/pipeline/stage_heads.h"
#include "host/pipeline/stage_lora.h"
#include "retort/abi/draft/loss.h"
#include "retort/abi/draft/optimizer.h"

namespace retort::host {
namespace {

Result<train::Schedule> ScheduleFor(const TrainingConfig& config, int64_t total_steps) {
  train::ScheduleOptions options;
  RETORT_ASSIGN_OR_RETURN(options.kind, train::ParseScheduleKind(config.schedule.kind));
  RETORT_ASSIGN_OR_RETURN(options.decay_type, train::ParseDecayType(config.schedule.decay_type));
  options.total_steps = total_steps;
  options.warmup_steps = config.schedule.warmup_steps;
  options.warmup_ratio = config.schedule.warmup_ratio;
  options.min_lr_ratio = config.schedule.min_lr_ratio;
  options.decay_steps = config.schedule.decay_steps;
  options.num_cycles = config.schedule.num_cycles;
  options.power = config.schedule.power;
  return train::Schedule::Make(options);
}

template <class Table>
Result<const Table*> TableOf(const PluginInstance& instance, const char* interface) {
  const auto* table = static_cast<const Table*>(instance.interface(interface));
  if (table != nullptr) return table;
  return FailedPrecondition("plugin " + instance.info().kind + "/" + instance.info().id +
                            " has no interface " + interface);
}

// The default of "weight_decay" in the optimizer's schema.
double OwnWeightDecay(const PluginInstance& optimizer) {
  const auto schema = json::Document::Parse(optimizer.info().config_schema, "config schema");
  if (!schema.ok()) return 0;
  return schema->root()["properties"]["weight_decay"]["default"].DoubleOr(0);
}

retort_key PluginKey(const StageRun& run, const std::string& place) {
  const RngKey key = Derive(run.key(), place);
  return {key.hi, key.lo};
}

}  // namespace

checkpoint::Environment EnvironmentOf(const engine::EngineInfo& info) {
  return {{"threads", std::to_string(info.n_threads)},
          {"cpu_capability", info.cpu_capability},
          {"kernel_level", info.kernel_level},
          {"libtorch", info.libtorch_version}};
}

// Each entry by the table that it has: over rows, or over whole sequences.
Status StageTrainer::CreateLosses(StageRun& run, engine::TrainerOptions* options) {
  const TrainingConfig& config = *run.stage->training();
  for (size_t i = 0; i < config.losses.size(); ++i) {
    const LossEntry& entry = config.losses[i];
    const std::string& name = entry.name.empty() ? entry.plugin : entry.name;
    const std::string place = "loss " + std::to_string(i);
    RETORT_ASSIGN_OR_RETURN(
        PluginInstance instance,
        run.session->plugins().Create("loss", entry.plugin, entry.config, PluginKey(run, place)));
    const auto* rows =
        static_cast<const retort_token_loss_v1*>(instance.interface(RETORT_TOKEN_LOSS_INTERFACE));
    if (rows != nullptr) {
      options->losses.push_back(
          {.name = name, .table = rows, .instance = instance.get(), .weight = entry.weight});
    } else {
      RETORT_ASSIGN_OR_RETURN(
          const retort_sequence_loss_v1* table,
          TableOf<retort_sequence_loss_v1>(instance, RETORT_SEQUENCE_LOSS_INTERFACE));
      sequence_needs_ |= table->spec(instance.get())->needs;
      options->sequence_losses.push_back(
          {.name = name, .table = table, .instance = instance.get(), .weight = entry.weight});
    }
    plugins_.push_back(std::move(instance));
  }
  return OkStatus();
}

Status StageTrainer::CreatePlugins(StageRun& run, engine::TrainerOptions* options) {
  const TrainingConfig& config = *run.stage->training();
  const PluginRegistry& registry = run.session->plugins();
  RETORT_RETURN_IF_ERROR(CreateLosses(run, options));
  RETORT_ASSIGN_OR_RETURN(PluginInstance instance,
                          registry.Create("optimizer", config.optimizer, config.optimizer_config,
                                          PluginKey(run, "optimizer")));
  RETORT_ASSIGN_OR_RETURN(const retort_optimizer_v1* table,
                          TableOf<retort_optimizer_v1>(instance, RETORT_OPTIMIZER_INTERFACE));
  options->optimizer = {.name = config.optimizer, .table = table, .instance = instance.get()};
  plugins_.push_back(std::move(instance));
  options->weight_decay = config.weight_decay.value_or(OwnWeightDecay(plugins_.back()));
  for (const ParamGroupOptions& group : config.param_groups) {
    options->groups.push_back(
        {.pattern = group.pattern, .lr_scale = group.lr_scale, .weight_decay = group.weight_decay});
  }
  options->no_decay = config.no_decay;
  options->max_grad_norm = config.max_grad_norm;
  options->recompute = static_cast<int32_t>(config.recompute);
  options->memory_limit = config.memory_limit;
  options->key_hi = run.key().hi;
  options->key_lo = run.key().lo;
  return OkStatus();
}

std::vector<engine::StateTensor> StageTrainer::State() {
  std::vector<engine::StateTensor> state = trainer_->State();
  state.insert(state.end(), beside_.begin(), beside_.end());
  return state;
}

Status StageTrainer::Restore(const checkpoint::Found& from) {
  const std::vector<engine::StateTensor> state = State();
  RETORT_ASSIGN_OR_RETURN(const std::string scalars, checkpoint::LoadState(from.folder, state));
  RETORT_RETURN_IF_ERROR(trainer_->LoadScalars(scalars));
  const std::string path = io::Join(from.folder, checkpoint::kTrainerStateName);
  RETORT_ASSIGN_OR_RETURN(const std::string text,
                          io::RealFileSystem().Read(path, kMaxTrainerState));
  const int64_t max_steps = state_.max_steps;
  RETORT_ASSIGN_OR_RETURN(state_, checkpoint::ReadTrainerState(text, path));
  state_.max_steps = max_steps;
  return OkStatus();
}

Result<std::unique_ptr<StageTrainer>> StageTrainer::Create(
    StageRun& run, const StageModel& base, int64_t total_steps,
    const std::optional<checkpoint::Found>& from, engine::TrainerOptions options) {
  const TrainingConfig& config = *run.stage->training();
  RETORT_ASSIGN_OR_RETURN(const train::Schedule schedule, ScheduleFor(config, total_steps));
  std::unique_ptr<StageTrainer> made(new StageTrainer(schedule));
  made->base_ = base;
  made->base_rate_ = config.learning_rate;
  made->state_.max_steps = total_steps;
  made->state_.num_train_epochs = static_cast<int64_t>(std::ceil(config.epochs));
  RETORT_ASSIGN_OR_RETURN(engine::Engine * engine, run.session->Engine());
  made->environment_ = EnvironmentOf(engine->Info());
  const OpenedModel* weights = base.opened;
  if (from) {
    const std::string difference =
        checkpoint::Difference(from->manifest.environment, made->environment_);
    if (!difference.empty() && !run.options->allow_inexact) {
      return FailedPrecondition(
          "going on from " + from->folder + " would not give the same numbers: " + difference +
          "; set it back, allow it with --allow-inexact, or start anew with --from " +
          run.stage->name);
    }
    if (!config.lora) {
      RETORT_ASSIGN_OR_RETURN(
          weights, run.session->OpenModel(from->folder, ChatFormatOf(config.model, *run.pipeline)));
    }
  }
  engine::LoadOptions load = {.for_training = true};
  RETORT_ASSIGN_OR_RETURN(load.storage, model::ParseStorage(base.storage));
  load.init_seed = Derive(run.key(), "adapter").lo;
  load.trainable = config.trainable;
  load.frozen = config.frozen;
  std::vector<AdapterUse> adapters;
  if (config.lora) {
    RETORT_ASSIGN_OR_RETURN(AdapterUse use,
                            TrainedAdapter(*run.session, *base.opened, *config.lora));
    if (from) use.folder = from->folder;
    if (HeadsOf(*run.stage) != Heads::kAsSaved) use.heads = HeadsOf(*run.stage);
    made->lora_ = use.spec;
    adapters.push_back(std::move(use));
  } else {
    RETORT_RETURN_IF_ERROR(CheckTrainedWhole(*weights));
  }
  RETORT_ASSIGN_OR_RETURN(made->model_,
                          run.session->LoadModel(*weights, load, adapters, HeadsOf(*run.stage)));
  run.NoteWeights(base.label, *made->model_);
  options.adapter = made->adapter();
  RETORT_RETURN_IF_ERROR(made->CreatePlugins(run, &options));
  RETORT_ASSIGN_OR_RETURN(made->trainer_, made->model_->NewTrainer(options));
  run.numbers.Set("recompute", made->trainer_->recompute());
  return made;
}

Result<std::vector<io::FileDigest>> StageTrainer::WriteModel(io::FileSystem& fs,
                                                             const std::string& folder) {
  std::vector<TensorView> params;
  for (const engine::StateTensor& param : model_->Params()) params.push_back(param.view);
  const model::ModelTexts texts = model::TextsOf(*base_.opened->source);
  if (!lora_) return model::WriteModelFolder(fs, folder, texts, model_->graph(), params);
  return model::WriteAdapterFolder(fs, folder, texts, io::Absolute(base_.opened->base_path()),
                                   model_->graph(), 0, *lora_, params);
}

Status StageTrainer::Log(StageRun& run, const StepLine& line,
                         const std::function<void(json::Writer&)>& more) {
  state_.log_history.push_back({.step = line.step,
                                .epoch = line.epoch,
                                .loss = line.loss,
                                .grad_norm = line.result.grad_norm,
                                .learning_rate = line.learning_rate});
  return run.folder->AppendMetrics(run.stage->name, line.step, [&](json::Writer& writer) {
    writer.Field("epoch", line.epoch).Field("loss", line.loss);
    writer.Field("grad_norm", line.result.grad_norm).Field("learning_rate", line.learning_rate);
    writer.Field("tokens", line.tokens);
    for (const engine::StepMetric& metric : line.result.metrics) {
      if (metric.name != "loss") writer.Field(metric.name, metric.value);
    }
    more(writer);
  });
}

Result<checkpoint::Found> StageTrainer::Save(StageRun& run, const TrainingPoint& point,
                                             bool final_one) {
  FaultPoint("checkpoint.begin");
  RETORT_RETURN_IF_ERROR(run.folder->SyncMetrics());
  state_.epoch = point.epoch;
  state_.train_batch_size = point.batch_size;
  state_.global_step = point.step;
  state_.num_input_tokens_seen = point.tokens;
  const std::vector<engine::StateTensor> state = State();
  io::FileSystem& fs = run.folder->fs();
  checkpoint::SaveRequest request;
  request.step = point.step;
  request.write_model = [&](const std::string& folder) { return WriteModel(fs, folder); };
  request.has_state = !final_one;
  if (!final_one) {
    request.state = state;
    RETORT_ASSIGN_OR_RETURN(request.scalars, trainer_->SaveScalars());
  }
  request.trainer_state = checkpoint::WriteTrainerState(state_);
  request.progress = point.progress;
  request.environment = environment_;
  request.nonce = run.nonce;
  RETORT_ASSIGN_OR_RETURN(checkpoint::Found saved,
                          checkpoint::Save(fs, run.dir, run.folder->Trash(), request));
  RETORT_RETURN_IF_ERROR(checkpoint::Retain(fs, run.dir, run.folder->Trash(),
                                            run.stage->training()->save_total_limit,
                                            state_.best_model_checkpoint));
  return saved;
}

StageOutput OutputOf(const checkpoint::Found& found) {
  StageOutput output;
  const std::string name = io::BaseName(found.folder);
  for (io::FileDigest file : found.manifest.files) {
    file.name = io::Join(name, file.name);
    output.files.push_back(std::move(file));
  }
  return output;
}

bool IsLast(const checkpoint::Found& from, int64_t total_steps) {
  return !from.manifest.has_state && from.manifest.step >= total_steps;
}

Result<std::optional<checkpoint::Found>> FindStart(StageRun& run, int64_t total_steps) {
  std::vector<std::string> warnings;
  RETORT_ASSIGN_OR_RETURN(std::optional<checkpoint::Found> found,
                          checkpoint::FindLatest(run.folder->fs(), run.dir, &warnings));
  for (const std::string& warning : warnings) run.Warn(warning);
  if (!found || found->manifest.has_state || IsLast(*found, total_steps)) return found;
  return DataLoss(found->folder +
                  ": has no optimizer state to go on with; start the stage anew with --from " +
                  run.stage->name);
}

void NoteResumed(StageRun& run, const checkpoint::Found& from, int64_t total_steps) {
  run.Resumed("from " + from.folder + ", " + std::to_string(total_steps - from.manifest.step) +
              " of " + std::to_string(total_steps) + " steps left");
}

}  // namespace retort::host
