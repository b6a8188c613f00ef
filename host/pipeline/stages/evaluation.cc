// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stages/evaluation.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/base/fault.h"
#include "core/base/threads.h"
#include "core/checkpoint/manifest.h"
#include "core/json/json.h"
#include "host/chain/reward_chain.h"
#include "host/pipeline/sampling.h"
#include "host/pipeline/stage_data.h"
#include "host/pipeline/stage_rewards.h"
#include "host/pipeline/stages/policy_log.h"

namespace retort::host {
namespace {

constexpr const char* kPrefix = "eval_";

std::string CheckpointName(int64_t step) { return "checkpoint-" + std::to_string(step); }

}  // namespace

Status Evaluation::Init() {
  if (!config_.task) return OkStatus();
  RETORT_ASSIGN_OR_RETURN(const std::vector<StageData> data,
                          LoadData(*run_.session, *run_.pipeline, config_.task->data,
                                   config_.task->limit, run_.folder->path()));
  RETORT_ASSIGN_OR_RETURN(prompts_, AsRecords(data));
  if (prompts_.empty()) return FailedPrecondition("the data of eval is empty");
  return OkStatus();
}

bool Evaluation::IsDue(int64_t step, int64_t evaluated, int64_t total_steps) const {
  if (config_.empty() || step <= evaluated) return false;
  const int64_t every = config_.steps;
  return step >= total_steps || (every > 0 && step / every > evaluated / every);
}

Result<bool> Evaluation::Run(StageTrainer& trainer, int64_t step, double epoch) {
  const Stopwatch watch;
  Numbers numbers;
  RETORT_RETURN_IF_ERROR(MeasureLoss(trainer, &numbers));
  RETORT_RETURN_IF_ERROR(MeasureAnswers(trainer, step, &numbers));
  RETORT_ASSIGN_OR_RETURN(const bool best, IsBest(trainer.state(), step, numbers));
  RETORT_RETURN_IF_ERROR(Log(trainer, step, epoch, watch.Seconds(), numbers));
  FaultPoint("eval.done");
  return best;
}

Status Evaluation::MeasureLoss(StageTrainer& trainer, Numbers* numbers) {
  if (window_.empty()) return OkStatus();
  const Result<engine::StepResult> result =
      trainer.trainer().Evaluate(window_, run_.options->cancel);
  if (result.status().code() == Code::kCancelled) return run_.CancelledStatus();
  RETORT_RETURN_IF_ERROR(result.status().WithContext("evaluation"));
  numbers->emplace_back("eval_loss", result->loss);
  for (const engine::StepMetric& metric : result->metrics) {
    if (metric.name == "loss") continue;
    numbers->emplace_back(kPrefix + std::string(metric.name), metric.value);
  }
  if (std::isfinite(result->loss)) return OkStatus();
  run_.Warn("the loss of the evaluation is no finite number");
  return OkStatus();
}

// The same prompts and random numbers each time: what differs is the model.
Status Evaluation::MeasureAnswers(StageTrainer& trainer, int64_t step, Numbers* numbers) {
  if (!config_.task) return OkStatus();
  const EvalTask& task = *config_.task;
  const SampleJob job = {.model = &model_,
                         .weights = &trainer.model(),
                         .adapter = trainer.adapter(),
                         .records = prompts_,
                         .samples = task.samples,
                         .decoding = &task.decoding,
                         .chat = &task.chat,
                         .prefix = task.prefix,
                         .sampling = &task.sampling,
                         .seed = Derive(run_.key(), "eval").lo,
                         .unit = "samples (evaluation)"};
  RETORT_ASSIGN_OR_RETURN(const std::vector<data::Sample> samples, DrawSamples(run_, job, {}));
  RETORT_ASSIGN_OR_RETURN(std::vector<double> rewards, Score(samples, step, numbers));
  std::erase_if(rewards, [](double reward) { return std::isnan(reward); });
  if (rewards.empty()) {
    run_.Warn("no answer of the evaluation was measured, so that it has no reward");
  } else {
    numbers->emplace_back("eval_reward", MeanOf(rewards));
  }
  std::vector<double> lengths, clipped;
  for (const data::Sample& sample : samples) {
    lengths.push_back(static_cast<double>(sample.completion_ids.size()));
    clipped.push_back(sample.finish == "length" ? 1 : 0);
  }
  numbers->emplace_back("eval_completions/mean_length", MeanOf(lengths));
  numbers->emplace_back("eval_completions/clipped_ratio", MeanOf(clipped));
  return OkStatus();
}

// The reward of each sample, NaN: not measured. A chain of its own each time: what plugins keep
// between calls would differ after a resume.
Result<std::vector<double>> Evaluation::Score(const std::vector<data::Sample>& samples,
                                              int64_t step, Numbers* numbers) {
  const ChainConfig& rewards = config_.task->rewards;
  RETORT_ASSIGN_OR_RETURN(const json::Document entries,
                          ChainEntriesOf(rewards, *run_.pipeline, run_.folder->path()));
  const RngKey key = Derive(run_.key(), "eval_rewards");
  RETORT_ASSIGN_OR_RETURN(
      RewardChain chain,
      RewardChain::Create(*run_.session, entries.root(), {key.hi, key.lo}, rewards.key_path));
  ChainCall call;
  call.cancel = run_.options->cancel;
  call.step = step;
  call.key = {key.hi, key.lo};
  call.n_threads = ResolveThreads(static_cast<int32_t>(run_.pipeline->threads));
  call.tokenizer = model_.opened->tokenizer.get();
  RETORT_ASSIGN_OR_RETURN(const RewardTable table, chain.Score(samples, call));
  if (run_.cancelled()) return run_.CancelledStatus();
  for (const RewardCounts& n : chain.counts()) {
    run_.numbers.AddFailures(n.name, n.n_errors, n.n_timeouts);
  }
  RETORT_RETURN_IF_ERROR(chain.Finish().WithContext("evaluation"));
  for (size_t c = 0; c < chain.names().size(); ++c) {
    std::vector<double> scores;
    for (size_t i = 0; i < table.n_samples; ++i) {
      if (table.status_at(i, c) == ScoreStatus::kOk) scores.push_back(table.score_at(i, c));
    }
    if (scores.empty()) continue;
    numbers->emplace_back("eval_rewards/" + chain.names()[c] + "/mean", MeanOf(scores));
  }
  return table.reward;
}

Status Evaluation::Log(StageTrainer& trainer, int64_t step, double epoch, double seconds,
                       const Numbers& numbers) {
  trainer.state().log_history.push_back({.step = step, .epoch = epoch, .evaluation = numbers});
  for (const auto& [name, value] : numbers) run_.numbers.Set(name, value);
  run_.numbers.Add("eval_seconds", seconds);
  const auto total = static_cast<double>(trainer.state().max_steps);
  run_.Emit({.kind = RunEvent::Kind::kProgress,
             .done = static_cast<double>(step),
             .total = total,
             .unit = "steps",
             .metric = numbers.front().first,
             .value = numbers.front().second});
  const auto fill = [&](json::Writer& writer) {
    writer.Field("epoch", epoch);
    for (const auto& [name, value] : numbers) writer.Field(name, value);
    writer.Field("eval_seconds", seconds);
  };
  const auto tell = [&](json::Writer& writer) {
    writer.Field("step", step);
    fill(writer);
  };
  (void)run_.folder->AppendEvent("evaluated", run_.stage->name, tell);  // for people
  return run_.folder->AppendMetrics(run_.stage->name, step, fill);
}

// As transformers: strictly better than the best so far.
Result<bool> Evaluation::IsBest(checkpoint::TrainerState& state, int64_t step,
                                const Numbers& numbers) const {
  if (config_.metric.empty()) return false;
  const auto is_it = [&](const auto& number) { return number.first == config_.metric; };
  const auto found = std::find_if(numbers.begin(), numbers.end(), is_it);
  if (found == numbers.end()) {
    if (config_.metric == "eval_reward") return false;  // nothing was measured, as was warned of
    std::string names;
    for (const auto& [name, value] : numbers) names += (names.empty() ? "" : ", ") + name;
    return FailedPrecondition("metric_for_best_model is " + config_.metric +
                              ", which the evaluation does not give; it gives " + names);
  }
  const double value = found->second;
  if (!std::isfinite(value)) return false;
  const bool first = !state.best_metric.has_value();
  const bool better = first || (config_.greater_is_better ? value > *state.best_metric
                                                          : value < *state.best_metric);
  if (!better) return false;
  state.best_metric = value;
  state.best_model_checkpoint = CheckpointName(step);
  return true;
}

Result<StageOutput> ResultOf(StageRun& run, const checkpoint::Found& last) {
  if (run.stage->training()->evaluation.metric.empty()) return OutputOf(last);
  const std::string path = io::Join(last.folder, checkpoint::kTrainerStateName);
  RETORT_ASSIGN_OR_RETURN(const std::string text, run.folder->fs().Read(path, kMaxTrainerState));
  RETORT_ASSIGN_OR_RETURN(const checkpoint::TrainerState state,
                          checkpoint::ReadTrainerState(text, path));
  if (state.best_metric) run.numbers.Set("best_metric", *state.best_metric);
  const std::string& best = state.best_model_checkpoint;
  if (!run.stage->training()->evaluation.load_best || best.empty()) return OutputOf(last);
  const std::string folder = io::Join(run.dir, best);
  Result<checkpoint::Manifest> manifest = checkpoint::Verify(run.folder->fs(), folder);
  if (io::IsOfTheSystem(manifest.status())) return manifest.status();
  if (!manifest.ok()) {
    return DataLoss("the best checkpoint is not what was saved: " + manifest.status().message() +
                    "; start the stage anew with --from " + run.stage->name);
  }
  run.numbers.Set("best_step", static_cast<double>(manifest->step));
  return OutputOf({.folder = folder, .manifest = std::move(*manifest)});
}

}  // namespace retort::host
