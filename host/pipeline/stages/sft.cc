// Records and samples to a checkpoint. The order of windows, the schedule and every random number
// follow from (seed, stage, step), so a stopped run goes on from a checkpoint bit by bit.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <optional>
#include <utility>

#include "core/json/json.h"
#include "host/pipeline/plan_memory.h"
#include "host/pipeline/stage.h"
#include "host/pipeline/stages/sft_data.h"
#include "host/pipeline/stages/stage_trainer.h"

namespace retort::host {
namespace {

// The only state of a training run besides tensors: integers, and sums since the last log line.
struct SftProgress {
  int64_t step = 0;  // optimizer steps done
  data::LoaderState loader;
  int64_t tokens = 0;      // through the model so far
  double window_loss = 0;  // since the last log line: sum over steps
  int64_t window_steps = 0;

  std::string ToJson() const {
    json::Writer writer;
    writer.BeginObject().Field("step", step).Field("epoch", loader.epoch).Field("row", loader.row);
    writer.Field("tokens", tokens).Field("window_loss", window_loss);
    writer.Field("window_steps", window_steps).EndObject();
    return writer.Take();
  }

  static Result<SftProgress> FromJson(const std::string& json) {
    RETORT_ASSIGN_OR_RETURN(const json::Document document, json::Document::Parse(json, "progress"));
    const json::Value root = document.root();
    SftProgress progress;
    RETORT_ASSIGN_OR_RETURN(progress.step, root["step"].AsInt());
    RETORT_ASSIGN_OR_RETURN(progress.loader.epoch, root["epoch"].AsInt());
    RETORT_ASSIGN_OR_RETURN(progress.loader.row, root["row"].AsInt());
    RETORT_ASSIGN_OR_RETURN(progress.tokens, root["tokens"].AsInt());
    RETORT_ASSIGN_OR_RETURN(progress.window_loss, root["window_loss"].AsDouble());
    RETORT_ASSIGN_OR_RETURN(progress.window_steps, root["window_steps"].AsInt());
    return progress;
  }
};

class SftLoop {
 public:
  SftLoop(StageRun& run, SftData& data, StageTrainer& trainer, SftProgress progress)
      : run_(run), data_(data), trainer_(trainer), progress_(progress) {}

  // Until the last step. CANCELLED: saved before the step that was given up.
  Result<checkpoint::Found> Run() {
    const SftStage& config = run_.stage->sft;
    while (progress_.step < data_.total_steps) {
      const SftProgress before = progress_;
      const Status stepped = run_.cancelled() ? run_.CancelledStatus() : Step();
      if (stepped.code() == Code::kCancelled) {
        progress_ = before;
        return StopCleanly();
      }
      RETORT_RETURN_IF_ERROR(stepped);
      const bool last = progress_.step == data_.total_steps;
      const bool save = config.save_steps > 0 && progress_.step % config.save_steps == 0;
      if (save && !last) RETORT_RETURN_IF_ERROR(Save(false).status());
    }
    return Save(true);
  }

 private:
  Status Step() {
    const std::vector<engine::MicroBatch> window = ToMicroBatches(data_.loader->Next());
    const double rate = trainer_.LearningRate(progress_.step);
    Stopwatch watch;
    Result<engine::StepResult> result =
        trainer_.trainer().Step(window, rate, progress_.step, run_.options->cancel);
    if (!result.ok()) {
      return result.status().WithContext("step " + std::to_string(progress_.step + 1));
    }
    ++progress_.step;
    progress_.loader = data_.loader->state();
    progress_.tokens += result->tokens;
    progress_.window_loss += result->loss;
    ++progress_.window_steps;
    run_.numbers.Add("tokens", static_cast<double>(result->tokens));
    run_.numbers.Add("label_tokens", static_cast<double>(result->label_tokens));
    run_.numbers.Add("step_seconds", watch.Seconds());
    const double speed = static_cast<double>(result->tokens) / std::max(watch.Seconds(), 1e-9);
    run_.Emit({.kind = RunEvent::Kind::kProgress,
               .done = static_cast<double>(progress_.step),
               .total = static_cast<double>(data_.total_steps),
               .unit = "steps",
               .rate = speed,
               .metric = "loss",
               .value = result->loss});
    return Log(*result, rate, speed);
  }

  // A line every logging_steps, and of the first and last step; the loss is the mean since the
  // line before.
  Status Log(const engine::StepResult& result, double rate, double speed) {
    const int64_t step = progress_.step;
    const bool due = step % run_.stage->sft.logging_steps == 0;
    if (!due && step != 1 && step != data_.total_steps) return OkStatus();
    const double loss = progress_.window_loss / static_cast<double>(progress_.window_steps);
    progress_.window_loss = 0;
    progress_.window_steps = 0;
    const double epoch = data_.loader->epoch_progress();
    trainer_.log().push_back({.step = step,
                              .epoch = epoch,
                              .loss = loss,
                              .grad_norm = result.grad_norm,
                              .learning_rate = rate});
    run_.numbers.Set("loss", loss);
    return run_.folder->AppendMetrics(run_.stage->name, step, [&](json::Writer& writer) {
      writer.Field("epoch", epoch).Field("loss", loss).Field("grad_norm", result.grad_norm);
      writer.Field("learning_rate", rate).Field("tokens", progress_.tokens);
      for (const engine::StepMetric& metric : result.metrics) {
        if (metric.name != "loss") writer.Field(metric.name, metric.value);
      }
      writer.Field("tokens_per_second", speed);
    });
  }

  Result<checkpoint::Found> Save(bool final_one) {
    saved_step_ = progress_.step;
    return trainer_.Save(run_,
                         {.step = progress_.step,
                          .tokens = progress_.tokens,
                          .epoch = data_.loader->epoch_progress(),
                          .batch_size = std::max<int64_t>(run_.stage->sft.per_device, 1),
                          .progress = progress_.ToJson()},
                         final_one);
  }

  Status StopCleanly() {
    if (progress_.step > 0 && progress_.step != saved_step_) {
      RETORT_RETURN_IF_ERROR(data_.loader->Restore(progress_.loader));
      RETORT_RETURN_IF_ERROR(Save(false).status());
    }
    return run_.CancelledStatus();
  }

  StageRun& run_;
  SftData& data_;
  StageTrainer& trainer_;
  SftProgress progress_;
  int64_t saved_step_ = 0;  // of the last checkpoint
};

}  // namespace

Result<StageOutput> RunSft(StageRun& run) {
  RETORT_ASSIGN_OR_RETURN(
      const StageModel base,
      OpenStageModel(*run.session, *run.pipeline, run.stage->sft.model, run.folder->path()));
  RETORT_ASSIGN_OR_RETURN(const std::unique_ptr<SftData> data,
                          LoadSftData(run, run.stage->sft, base));
  RETORT_ASSIGN_OR_RETURN(const std::optional<checkpoint::Found> from, FindStart(run));
  SftProgress progress;
  if (from) {
    RETORT_ASSIGN_OR_RETURN(progress, SftProgress::FromJson(from->manifest.progress));
    RETORT_RETURN_IF_ERROR(data->loader->Restore(progress.loader));
    run.Resumed("from " + from->folder + ", " + std::to_string(data->total_steps - progress.step) +
                " of " + std::to_string(data->total_steps) + " steps left");
  }
  RETORT_RETURN_IF_ERROR(run.folder->CutMetrics(run.stage->name, progress.step));
  run.numbers.Set("steps", static_cast<double>(data->total_steps));
  if (from && !from->manifest.has_state) {
    // The last checkpoint of all: only the stage's manifest was missing.
    if (progress.step == data->total_steps) return OutputOf(*from);
    return DataLoss(from->folder +
                    ": has no optimizer state to go on with; start the stage anew "
                    "with --from " +
                    run.stage->name);
  }
  engine::TrainerOptions options;
  options.micro_batch_tokens = MicroBatchTokens(run.stage->sft);
  options.micro_batches = MicroBatches(run.stage->sft);
  options.longest = run.stage->sft.max_length;
  RETORT_ASSIGN_OR_RETURN(
      const std::unique_ptr<StageTrainer> trainer,
      StageTrainer::Create(run, base, data->total_steps, from, std::move(options)));
  RETORT_ASSIGN_OR_RETURN(const checkpoint::Found last,
                          SftLoop(run, *data, *trainer, progress).Run());
  return OutputOf(last);
}

}  // namespace retort::host
