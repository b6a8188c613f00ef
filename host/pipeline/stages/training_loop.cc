// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stages/training_loop.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "core/json/json.h"
#include "host/pipeline/plan_memory.h"
#include "host/pipeline/stages/evaluation.h"

namespace retort::host {
namespace {

// The only state of a training run besides tensors: integers, and sums since the last log line.
struct TrainingProgress {
  int64_t step = 0;  // optimizer steps done
  data::LoaderState loader;
  int64_t tokens = 0;      // through the model so far
  double window_loss = 0;  // since the last log line: sum over steps
  int64_t window_steps = 0;
  int64_t skipped = 0, skips_in_row = 0;         // steps without an update: on_nonfinite skip
  std::vector<data::LoaderState> left_out = {};  // where windows begin that rollbacks leave out
  int64_t evaluated = 0;                         // step of the last evaluation

  std::string ToJson() const {
    json::Writer writer;
    writer.BeginObject().Field("step", step).Field("epoch", loader.epoch).Field("row", loader.row);
    writer.Field("tokens", tokens).Field("window_loss", window_loss);
    writer.Field("window_steps", window_steps).Field("skipped", skipped);
    writer.Field("skips_in_row", skips_in_row).Field("evaluated", evaluated);
    writer.Key("left_out").BeginArray();
    for (const data::LoaderState& window : left_out) writer.Int(window.epoch).Int(window.row);
    writer.EndArray().EndObject();
    return writer.Take();
  }

  static Result<TrainingProgress> FromJson(const std::string& json) {
    RETORT_ASSIGN_OR_RETURN(const json::Document document, json::Document::Parse(json, "progress"));
    const json::Value root = document.root();
    TrainingProgress progress;
    RETORT_ASSIGN_OR_RETURN(progress.step, root["step"].AsInt());
    RETORT_ASSIGN_OR_RETURN(progress.loader.epoch, root["epoch"].AsInt());
    RETORT_ASSIGN_OR_RETURN(progress.loader.row, root["row"].AsInt());
    RETORT_ASSIGN_OR_RETURN(progress.tokens, root["tokens"].AsInt());
    RETORT_ASSIGN_OR_RETURN(progress.window_loss, root["window_loss"].AsDouble());
    RETORT_ASSIGN_OR_RETURN(progress.window_steps, root["window_steps"].AsInt());
    progress.skipped = root["skipped"].IntOr(0);
    progress.skips_in_row = root["skips_in_row"].IntOr(0);
    progress.evaluated = root["evaluated"].IntOr(0);
    const json::Value windows = root["left_out"];  // epoch, row, epoch, row ...
    for (size_t i = 0; i + 1 < windows.size(); i += 2) {
      progress.left_out.push_back({.epoch = windows[i].IntOr(0), .row = windows[i + 1].IntOr(0)});
    }
    return progress;
  }
};

// Of a stage with on_nonfinite rollback: which windows its attempts leave out.
struct Rollback {
  bool wanted = false;  // the attempt ended for this reason: make another
  std::vector<data::LoaderState> left_out = {};
  int64_t step = -1, times = 0;  // the last step that failed, how often in a row
};

class TrainingLoop {
 public:
  TrainingLoop(StageRun& run, SftData& data, StageTrainer& trainer, const WindowMaker& make_window,
               Evaluation& evaluation, TrainingProgress progress, Rollback& rollback)
      : run_(run),
        data_(data),
        trainer_(trainer),
        make_window_(make_window),
        evaluation_(evaluation),
        progress_(std::move(progress)),
        rollback_(rollback) {}

  // Until the last step and its evaluation. CANCELLED: saved before what was given up. A failure
  // with rollback.wanted: go back to the last checkpoint.
  Result<checkpoint::Found> Run() {
    while (progress_.step < data_.total_steps || EvaluationIsDue()) {
      const TrainingProgress before = progress_;
      const bool evaluates = EvaluationIsDue();
      const Status done = run_.cancelled() ? run_.CancelledStatus()
                          : evaluates      ? Evaluate()
                                           : Step();
      if (done.code() == Code::kCancelled) {
        progress_ = before;
        return StopCleanly();
      }
      RETORT_RETURN_IF_ERROR(done);
      if (SaveIsDue()) RETORT_RETURN_IF_ERROR(Save(false).status());
    }
    return Save(true);
  }

 private:
  bool EvaluationIsDue() const {
    return evaluation_.IsDue(progress_.step, progress_.evaluated, data_.total_steps);
  }

  // A checkpoint has the evaluation of its step.
  bool SaveIsDue() const {
    if (EvaluationIsDue() || progress_.step >= data_.total_steps) return false;
    const int64_t every = run_.stage->sft.save_steps;
    return is_best_ || (every > 0 && progress_.step % every == 0 && progress_.step != saved_step_);
  }

  Status Evaluate() {
    RETORT_ASSIGN_OR_RETURN(
        is_best_, evaluation_.Run(trainer_, progress_.step, data_.loader->epoch_progress()));
    progress_.evaluated = progress_.step;
    return OkStatus();
  }

  Status Step() {
    const auto is_left_out = [&] {
      const auto& all = progress_.left_out;
      return std::find(all.begin(), all.end(), data_.loader->state()) != all.end();
    };
    while (is_left_out()) data_.loader->Next();
    const data::LoaderState begin = data_.loader->state();
    RETORT_ASSIGN_OR_RETURN(const std::vector<engine::MicroBatch> window,
                            make_window_(data_.loader->Next(), progress_.step, trainer_));
    const double rate = trainer_.LearningRate(progress_.step);
    Stopwatch watch;
    Result<engine::StepResult> result =
        trainer_.trainer().Step(window, rate, progress_.step, run_.options->cancel);
    if (!result.ok()) {
      const Status failed =
          result.status().WithContext("step " + std::to_string(progress_.step + 1));
      return failed.code() == Code::kDataLoss ? OnNonFinite(failed, begin, rate) : failed;
    }
    ++progress_.step;
    progress_.skips_in_row = 0;
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

  // A loss or gradient was no number, and no weight was changed.
  Status OnNonFinite(const Status& failed, data::LoaderState begin, double rate) {
    const SftStage& config = run_.stage->sft;
    if (config.on_nonfinite == "stop") return failed;
    const bool back = config.on_nonfinite == "rollback";
    const bool again = back && rollback_.step == progress_.step;
    const int64_t before = back ? (again ? rollback_.times : 0) : progress_.skips_in_row;
    if (before >= config.max_skips) {
      return failed.WithContext("after " + std::to_string(before) +
                                " batches in a row that on_nonfinite left out (max_skips)");
    }
    if (!back) return Skip(failed, rate);
    run_.Warn(failed.message() + "; back to the last checkpoint, without this batch");
    rollback_.wanted = true;
    rollback_.left_out.push_back(begin);
    rollback_.step = progress_.step;
    rollback_.times = before + 1;
    return failed;
  }

  // The step counts, and its batch is used up.
  Status Skip(const Status& failed, double rate) {
    run_.Warn(failed.message() + "; skipped");
    ++progress_.step;
    ++progress_.skipped;
    ++progress_.skips_in_row;
    progress_.loader = data_.loader->state();
    run_.numbers.Set("skipped", static_cast<double>(progress_.skipped));
    return run_.folder->AppendMetrics(run_.stage->name, progress_.step, [&](json::Writer& writer) {
      writer.Field("epoch", data_.loader->epoch_progress()).Field("learning_rate", rate);
      writer.Field("skipped", progress_.skipped);
    });
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
    run_.numbers.Set("loss", loss);
    const StepLine line = {.step = step,
                           .epoch = epoch,
                           .loss = loss,
                           .learning_rate = rate,
                           .tokens = progress_.tokens,
                           .result = result};
    return trainer_.Log(run_, line, [&](json::Writer& writer) {
      if (progress_.skipped > 0) writer.Field("skipped", progress_.skipped);
      if (!progress_.left_out.empty()) {
        writer.Field("left_out", static_cast<int64_t>(progress_.left_out.size()));
      }
      writer.Field("tokens_per_second", speed);
    });
  }

  Result<checkpoint::Found> Save(bool final_one) {
    saved_step_ = progress_.step;
    is_best_ = false;
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
  const WindowMaker& make_window_;
  Evaluation& evaluation_;
  TrainingProgress progress_;
  Rollback& rollback_;
  int64_t saved_step_ = 0;  // of the last checkpoint
  bool is_best_ = false;    // what is to be saved is the best so far
};

// The checkpoint's progress, with what this process' rollbacks leave out beside it.
Result<TrainingProgress> ProgressOf(const std::optional<checkpoint::Found>& from,
                                    const Rollback& rollback) {
  TrainingProgress progress;
  if (from) {
    RETORT_ASSIGN_OR_RETURN(progress, TrainingProgress::FromJson(from->manifest.progress));
  }
  for (const data::LoaderState& window : rollback.left_out) {
    const auto& all = progress.left_out;
    if (std::find(all.begin(), all.end(), window) == all.end()) progress.left_out.push_back(window);
  }
  return progress;
}

void NoteProgress(StageRun& run, const TrainingProgress& progress, int64_t total_steps) {
  run.numbers.Set("steps", static_cast<double>(total_steps));
  if (progress.skipped > 0) run.numbers.Set("skipped", static_cast<double>(progress.skipped));
  if (progress.left_out.empty()) return;
  run.numbers.Set("left_out", static_cast<double>(progress.left_out.size()));
}

// From the last checkpoint, or the beginning, to the end.
Result<StageOutput> Attempt(StageRun& run, const StageModel& base, SftData& data,
                            const engine::TrainerOptions& extra, const WindowMaker& make_window,
                            const HeldBack& held_back, Rollback& rollback) {
  RETORT_ASSIGN_OR_RETURN(const std::optional<checkpoint::Found> from,
                          FindStart(run, data.total_steps));
  RETORT_ASSIGN_OR_RETURN(TrainingProgress progress, ProgressOf(from, rollback));
  RETORT_RETURN_IF_ERROR(data.loader->Restore(progress.loader));
  if (from && !rollback.wanted) NoteResumed(run, *from, data.total_steps);
  rollback.wanted = false;
  RETORT_RETURN_IF_ERROR(run.folder->CutMetrics(run.stage->name, progress.step));
  NoteProgress(run, progress, data.total_steps);
  if (from && IsLast(*from, data.total_steps)) return ResultOf(run, *from);
  Evaluation evaluation(run, base);
  RETORT_RETURN_IF_ERROR(evaluation.Init());
  engine::TrainerOptions options = extra;
  options.micro_batch_tokens = MicroBatchTokens(run.stage->sft);
  options.micro_batches = MicroBatches(run.stage->sft);
  options.longest = run.stage->sft.max_length;
  RETORT_ASSIGN_OR_RETURN(
      const std::unique_ptr<StageTrainer> trainer,
      StageTrainer::Create(run, base, data.total_steps, from, std::move(options)));
  if (from) RETORT_RETURN_IF_ERROR(trainer->Restore(*from));
  if (!held_back.batches.empty()) {
    RETORT_ASSIGN_OR_RETURN(std::vector<engine::MicroBatch> window,
                            held_back.make_window(held_back.batches, -1, *trainer));
    evaluation.SetWindow(std::move(window));
  }
  TrainingLoop loop(run, data, *trainer, make_window, evaluation, std::move(progress), rollback);
  RETORT_ASSIGN_OR_RETURN(const checkpoint::Found last, loop.Run());
  return ResultOf(run, last);
}

}  // namespace

Result<StageOutput> TrainOn(StageRun& run, const StageModel& base, SftData& data,
                            const engine::TrainerOptions& extra, const WindowMaker& make_window,
                            const HeldBack& held_back) {
  Rollback rollback;
  for (;;) {
    Result<StageOutput> output = Attempt(run, base, data, extra, make_window, held_back, rollback);
    if (output.ok() || !rollback.wanted) return output;
  }
}

}  // namespace retort::host
