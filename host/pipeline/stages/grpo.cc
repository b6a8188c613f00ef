// Prompts to a checkpoint by rewards: rollouts of the weights as they are, advantages, and some
// optimizer steps on them, over and over. Checkpoints stand between rollouts; a stopped run goes
// on bit by bit with those that were kept since, and draws the rest again.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

#include "core/base/fault.h"
#include "core/graph/shared_rows.h"
#include "core/io/jsonl.h"
#include "core/json/json.h"
#include "core/train/advantages.h"
#include "host/pipeline/plan_memory.h"
#include "host/pipeline/stage.h"
#include "host/pipeline/stage_data.h"
#include "host/pipeline/stages/cold_start.h"
#include "host/pipeline/stages/evaluation.h"
#include "host/pipeline/stages/policy_batches.h"
#include "host/pipeline/stages/policy_log.h"
#include "host/pipeline/stages/policy_reference.h"
#include "host/pipeline/stages/policy_scores.h"
#include "host/pipeline/stages/rollout_maker.h"
#include "host/pipeline/stages/stage_trainer.h"
#include "host/pipeline/stages/token_advantages.h"

namespace retort::host {
namespace {

// Over this many times target_kl no further step is made: stable-baselines3's and Spinning Up's.
constexpr double kDivergenceLimit = 1.5;

struct Progress {
  int64_t step = 0;            // optimizer steps done
  int64_t position = 0;        // prompts used up
  int64_t tokens = 0;          // through the model
  int64_t samples_offset = 0;  // bytes of samples.jsonl
  int64_t evaluated = 0;       // step of the last evaluation
  int64_t early_stops = 0;     // rounds that target_kl ended
  data::LoaderState cold_start = {};

  std::string ToJson() const {
    json::Writer writer;
    writer.BeginObject().Field("step", step).Field("position", position).Field("tokens", tokens);
    writer.Field("samples_offset", samples_offset).Field("evaluated", evaluated);
    writer.Field("early_stops", early_stops);
    writer.Field("cold_epoch", cold_start.epoch).Field("cold_row", cold_start.row);
    return writer.EndObject().Take();
  }
  static Result<Progress> FromJson(const std::string& text) {
    RETORT_ASSIGN_OR_RETURN(const json::Document document, json::Document::Parse(text, "progress"));
    const json::Value root = document.root();
    Progress progress;
    RETORT_ASSIGN_OR_RETURN(progress.step, root["step"].AsInt());
    RETORT_ASSIGN_OR_RETURN(progress.position, root["position"].AsInt());
    RETORT_ASSIGN_OR_RETURN(progress.tokens, root["tokens"].AsInt());
    RETORT_ASSIGN_OR_RETURN(progress.samples_offset, root["samples_offset"].AsInt());
    progress.evaluated = root["evaluated"].IntOr(0);
    progress.early_stops = root["early_stops"].IntOr(0);
    progress.cold_start = {.epoch = root["cold_epoch"].IntOr(0), .row = root["cold_row"].IntOr(0)};
    return progress;
  }
};

class PolicyLoop {
 public:
  struct Parts {
    StageTrainer& trainer;
    RolloutMaker& rollouts;
    const PolicyReference* reference;  // or NULL
    ColdStart* cold_start;             // or NULL
    Evaluation& evaluation;
  };
  PolicyLoop(StageRun& run, const Parts& parts, int64_t total_steps, Progress progress)
      : run_(run),
        config_(run.stage->grpo),
        trainer_(parts.trainer),
        rollouts_(parts.rollouts),
        reference_(parts.reference),
        cold_start_(parts.cold_start),
        evaluation_(parts.evaluation),
        scores_(run, parts.trainer, parts.reference),
        total_steps_(total_steps),
        progress_(progress) {}

  Result<checkpoint::Found> Run() {
    RETORT_ASSIGN_OR_RETURN(
        io::JsonlAppender samples,
        io::JsonlAppender::Open(run_.folder->fs(), io::Join(run_.dir, "samples.jsonl"),
                                {.resume_offset = progress_.samples_offset}));
    saved_step_ = progress_.step;
    while (progress_.step < total_steps_ || EvaluationIsDue()) {
      const bool evaluates = EvaluationIsDue();
      const Status done = run_.cancelled() ? run_.CancelledStatus()
                          : evaluates      ? Evaluate()
                                           : Round(&samples);
      if (done.code() == Code::kCancelled) {
        if (progress_.step != saved_step_) RETORT_RETURN_IF_ERROR(Save(&samples, false).status());
        return run_.CancelledStatus();
      }
      RETORT_RETURN_IF_ERROR(done);
      if (SaveIsDue()) RETORT_RETURN_IF_ERROR(Save(&samples, false).status());
    }
    RETORT_RETURN_IF_ERROR(rollouts_.Finish());
    return Save(&samples, true);
  }

 private:
  // The completions of a round, and what was measured of them.
  struct Drawn {
    const Rollouts& rollouts;
    const TokenValues& values;
    PolicyBatches batches;
    double score_seconds;
  };
  struct StepNotes {
    bool first;                        // on these completions
    std::optional<double> divergence;  // from the policy that drew them, where it was measured
  };

  bool EvaluationIsDue() const {
    return evaluation_.IsDue(progress_.step, progress_.evaluated, total_steps_);
  }

  // A checkpoint has the evaluation of its step.
  bool SaveIsDue() const {
    if (EvaluationIsDue() || progress_.step >= total_steps_) return false;
    const int64_t every = config_.save_steps;
    return is_best_ || (every > 0 && progress_.step / every != saved_step_ / every);
  }

  Status Evaluate() {
    RETORT_ASSIGN_OR_RETURN(is_best_, evaluation_.Run(trainer_, progress_.step, Epoch()));
    progress_.evaluated = progress_.step;
    return OkStatus();
  }

  // Rollouts and the steps on them. Once they are drawn a stop waits for the steps, which are
  // short beside them.
  Status Round(io::JsonlAppender* samples) {
    RETORT_ASSIGN_OR_RETURN(Rollouts rollouts, rollouts_.Make(progress_.step, progress_.position));
    if (rollouts.samples.empty()) WarnOfNothingToLearn(rollouts);
    const Stopwatch score_watch;
    RETORT_ASSIGN_OR_RETURN(TokenValues values, scores_.Measure(rollouts));
    if (config_.algorithm == "ppo") {
      SetTokenAdvantages(&rollouts, &values);
    } else {
      SubtractDivergence(values, &rollouts);
      SetAdvantages(&rollouts);
    }
    const double score_seconds = score_watch.Seconds();
    RETORT_RETURN_IF_ERROR(AppendSamples(rollouts, rollouts_.chain(), progress_.step, samples));
    FaultPoint("rollouts.written");
    run_.numbers.Add("generate_seconds", rollouts.generate_seconds);
    run_.numbers.Add("reward_seconds", rollouts.reward_seconds);
    run_.numbers.Add("score_seconds", score_seconds);
    run_.numbers.Add("samples", static_cast<double>(rollouts.samples.size()));
    const double floor = EntropyFloor(rollouts, values, config_.top_entropy_quantile);
    const Drawn drawn = {
        rollouts, values,
        PolicyBatches(rollouts, values, floor, graph::TextsMayShareRows(trainer_.model().graph())),
        score_seconds};
    bool goes_on = true;
    for (int64_t pass = 0; pass < config_.num_iterations && goes_on; ++pass) {
      RETORT_ASSIGN_OR_RETURN(goes_on, Pass(drawn, pass));
    }
    progress_.position = rollouts.position;
    return OkStatus();
  }

  void WarnOfNothingToLearn(const Rollouts& rollouts) {
    run_.Warn("step " + std::to_string(progress_.step + 1) +
              ": all rewards were equal in each of " + std::to_string(rollouts.drawn_groups) +
              " groups that dynamic_sampling drew, so they teach nothing. Look at the rewards in "
              "samples.jsonl, take easier prompts or more of them (num_generations)");
  }

  // Every group once, in steps_per_generation steps; false: target_kl ends the round.
  Result<bool> Pass(const Drawn& drawn, int64_t pass) {
    std::vector<size_t> order(drawn.rollouts.rewards.size());
    std::iota(order.begin(), order.end(), size_t{0});
    Shuffle(Derive(Derive(run_.key(), "minibatches"), static_cast<uint64_t>(progress_.step)),
            &order);
    const auto steps = static_cast<size_t>(config_.steps_per_generation);
    for (size_t s = 0; s < steps && progress_.step < total_steps_; ++s) {
      const size_t begin = order.size() * s / steps, end = order.size() * (s + 1) / steps;
      const std::span<const size_t> groups(order.data() + begin, end - begin);
      StepNotes notes = {.first = pass == 0 && s == 0, .divergence = {}};
      if (config_.target_kl > 0 && !notes.first) {
        RETORT_ASSIGN_OR_RETURN(notes.divergence,
                                scores_.Divergence(drawn.rollouts, drawn.values, groups));
        if (*notes.divergence > kDivergenceLimit * config_.target_kl) {
          run_.numbers.Set("early_stops", static_cast<double>(++progress_.early_stops));
          return false;
        }
      }
      RETORT_RETURN_IF_ERROR(Step(drawn, groups, notes));
    }
    return true;
  }

  // The groups' completions, then the examples of cold_start.
  std::vector<engine::MicroBatch> WindowOf(const Drawn& drawn, std::span<const size_t> groups) {
    const int64_t limit = MicroBatchTokens(config_);
    std::vector<engine::MicroBatch> window = drawn.batches.Make(groups, limit);
    if (cold_start_ == nullptr) return window;
    for (engine::MicroBatch& batch : window) batch.losses = engine::kSequenceLosses;
    for (engine::MicroBatch& batch : cold_start_->Next(limit)) window.push_back(std::move(batch));
    progress_.cold_start = cold_start_->state();
    return window;
  }

  Status Step(const Drawn& drawn, std::span<const size_t> groups, const StepNotes& notes) {
    const std::vector<engine::MicroBatch> window = WindowOf(drawn, groups);
    const double rate = trainer_.LearningRate(progress_.step);
    const Stopwatch watch;
    Result<engine::StepResult> result =
        trainer_.trainer().Step(window, rate, progress_.step, nullptr);
    if (!result.ok()) {
      return result.status().WithContext("step " + std::to_string(progress_.step + 1));
    }
    ++progress_.step;
    progress_.tokens += result->tokens;
    run_.numbers.Add("tokens", static_cast<double>(result->tokens));
    run_.numbers.Add("train_seconds", watch.Seconds());
    run_.Emit({.kind = RunEvent::Kind::kProgress,
               .done = static_cast<double>(progress_.step),
               .total = static_cast<double>(total_steps_),
               .unit = "steps",
               .rate = static_cast<double>(result->tokens) / std::max(watch.Seconds(), 1e-9),
               .metric = "reward",
               .value = MeanOf(drawn.rollouts.total)});
    if (config_.sync_ref_model && progress_.step % config_.ref_model_sync_steps == 0) {
      RETORT_RETURN_IF_ERROR(MixIntoReference(trainer_.model().Params(),
                                              reference_->weights().Params(),
                                              config_.ref_model_mixup_alpha));
    }
    return Log(*result, drawn, notes, rate, watch.Seconds());
  }

  // R - kl_coef * sum of (old - ref) over the completion, as TRL's RLOO does.
  void SubtractDivergence(const TokenValues& values, Rollouts* rollouts) const {
    if (config_.kl_coef == 0) return;
    for (size_t i = 0; i < rollouts->samples.size(); ++i) {
      double kl = 0;
      const auto first = static_cast<size_t>(rollouts->samples[i].n_prefix);
      for (size_t t = first; t < values.old_logp[i].size(); ++t) {
        kl +=
            static_cast<double>(values.old_logp[i][t]) - static_cast<double>(values.ref_logp[i][t]);
      }
      rollouts->total[i] -= config_.kl_coef * kl;
    }
  }

  void SetAdvantages(Rollouts* rollouts) const {
    train::Rewards rewards{.group_size = config_.num_generations,
                           .total = rollouts->total,
                           .columns = {},
                           .weights = {}};
    const std::vector<std::vector<double>> columns =
        ScoresByReward(*rollouts, rollouts_.chain().size());
    rewards.columns.assign(columns.begin(), columns.end());
    rewards.weights = rollouts_.chain().weights();
    const train::AdvantageOptions options = {.kind = *train::ParseAdvantage(config_.advantage),
                                             .eps = config_.advantage_eps};
    rollouts->advantage = train::Advantages(rewards, options);
    LeaveOutTruncated(rollouts);
  }

  void SetTokenAdvantages(Rollouts* rollouts, TokenValues* values) const {
    rollouts->advantage.clear();
    for (const double total : rollouts->total) {
      rollouts->advantage.push_back(std::isnan(total) ? total : 0);
    }
    LeaveOutTruncated(rollouts);
    EstimateAdvantages({.gae = {.gamma = config_.gamma, .lambda = config_.lambda},
                        .kl_coef = config_.kl_coef,
                        .whiten_rewards = config_.whiten_rewards},
                       rollouts, values);
  }

  void LeaveOutTruncated(Rollouts* rollouts) const {
    for (size_t i = 0; i < rollouts->samples.size(); ++i) {
      const bool cut = rollouts->samples[i].finish == "length";
      if (cut && config_.mask_truncated_completions) {
        rollouts->advantage[i] = std::numeric_limits<double>::quiet_NaN();
      }
    }
  }

  Status Log(const engine::StepResult& result, const Drawn& drawn, const StepNotes& notes,
             double rate, double train_seconds) {
    const Rollouts& rollouts = drawn.rollouts;
    const int64_t step = progress_.step;
    if (step % config_.logging_steps != 0 && step != 1 && step != total_steps_) return OkStatus();
    run_.numbers.Set("reward", MeanOf(rollouts.total));
    const StepLine line = {.step = step,
                           .epoch = Epoch(),
                           .loss = result.loss,
                           .learning_rate = rate,
                           .tokens = progress_.tokens,
                           .result = result};
    return trainer_.Log(run_, line, [&](json::Writer& writer) {
      WriteRollouts(rollouts, rollouts_.chain(), writer);
      if (notes.divergence) writer.Field("approx_kl", *notes.divergence);
      if (config_.target_kl > 0) writer.Field("early_stops", progress_.early_stops);
      writer.Field("train_seconds", train_seconds);
      if (!notes.first) return;  // the rollouts are those of an earlier step
      writer.Field("generate_seconds", rollouts.generate_seconds);
      writer.Field("reward_seconds", rollouts.reward_seconds);
      writer.Field("score_seconds", drawn.score_seconds);
    });
  }

  double Epoch() const {
    return static_cast<double>(progress_.position) / static_cast<double>(rollouts_.n_prompts());
  }

  Result<checkpoint::Found> Save(io::JsonlAppender* samples, bool final_one) {
    RETORT_RETURN_IF_ERROR(samples->Sync());
    progress_.samples_offset = static_cast<int64_t>(samples->offset());
    saved_step_ = progress_.step;
    is_best_ = false;
    RETORT_ASSIGN_OR_RETURN(checkpoint::Found saved, trainer_.Save(run_,
                                                                   {.step = progress_.step,
                                                                    .tokens = progress_.tokens,
                                                                    .epoch = Epoch(),
                                                                    .progress = progress_.ToJson()},
                                                                   final_one));
    RETORT_RETURN_IF_ERROR(rollouts_.Forget(progress_.step));
    return saved;
  }

  StageRun& run_;
  const GrpoStage& config_;
  StageTrainer& trainer_;
  RolloutMaker& rollouts_;
  const PolicyReference* reference_;
  ColdStart* cold_start_;
  Evaluation& evaluation_;
  PolicyScores scores_;
  const int64_t total_steps_;
  Progress progress_;
  int64_t saved_step_ = 0;  // of the last checkpoint
  bool is_best_ = false;    // what is to be saved is the best so far
};

int64_t TotalSteps(const GrpoStage& config, int64_t n_prompts) {
  if (config.max_steps > 0) return config.max_steps;
  const double rounds = std::ceil(config.epochs * static_cast<double>(n_prompts) /
                                  static_cast<double>(config.prompts_per_step));
  return static_cast<int64_t>(rounds) * config.steps_per_generation * config.num_iterations;
}

Result<std::vector<data::Record>> LoadPrompts(StageRun& run) {
  const GrpoStage& config = run.stage->grpo;
  RETORT_ASSIGN_OR_RETURN(
      const std::vector<StageData> data,
      LoadData(*run.session, *run.pipeline, config.data, config.limit, run.folder->path()));
  RETORT_ASSIGN_OR_RETURN(std::vector<data::Record> records, AsRecords(data));
  if (records.empty()) return FailedPrecondition("the stage's data is empty");
  return records;
}

Result<StageOutput> OutputWithSamples(StageRun& run, const checkpoint::Found& last) {
  RETORT_ASSIGN_OR_RETURN(StageOutput output, ResultOf(run, last));
  RETORT_ASSIGN_OR_RETURN(io::FileDigest digest, io::HashFile(io::Join(run.dir, "samples.jsonl")));
  digest.name = "samples.jsonl";
  output.files.push_back(std::move(digest));
  return output;
}

}  // namespace

Result<StageOutput> RunGrpo(StageRun& run) {
  const GrpoStage& config = run.stage->grpo;
  RETORT_ASSIGN_OR_RETURN(const StageModel base, OpenStageModel(*run.session, *run.pipeline,
                                                                config.model, run.folder->path()));
  RETORT_ASSIGN_OR_RETURN(std::vector<data::Record> records, LoadPrompts(run));
  const int64_t total_steps = TotalSteps(config, static_cast<int64_t>(records.size()));
  RETORT_ASSIGN_OR_RETURN(const std::optional<checkpoint::Found> from, FindStart(run, total_steps));
  Progress progress;
  if (from) {
    RETORT_ASSIGN_OR_RETURN(progress, Progress::FromJson(from->manifest.progress));
    NoteResumed(run, *from, total_steps);
  }
  RETORT_RETURN_IF_ERROR(run.folder->CutMetrics(run.stage->name, progress.step));
  RETORT_RETURN_IF_ERROR(KeptRollouts(run).Forget(progress.step));
  run.numbers.Set("steps", static_cast<double>(total_steps));
  if (progress.early_stops > 0) {
    run.numbers.Set("early_stops", static_cast<double>(progress.early_stops));
  }
  run.numbers.Set("prompts", static_cast<double>(records.size()));
  if (from && IsLast(*from, total_steps)) return OutputWithSamples(run, *from);
  std::optional<ColdStart> cold_start;
  if (config.cold_start) {
    RETORT_ASSIGN_OR_RETURN(cold_start, ColdStart::Open(run, base));
    RETORT_RETURN_IF_ERROR(cold_start->Restore(progress.cold_start));
  }
  engine::TrainerOptions options;
  options.temperature = config.sampling.temperature;
  options.max_completion_length = static_cast<double>(config.sampling.max_tokens);
  options.micro_batch_tokens =
      std::max(MicroBatchTokens(config), cold_start ? cold_start->longest() : 0);
  RETORT_ASSIGN_OR_RETURN(const std::unique_ptr<StageTrainer> trainer,
                          StageTrainer::Create(run, base, total_steps, from, std::move(options)));
  std::optional<PolicyReference> reference;
  if ((trainer->sequence_needs() & RETORT_SEQUENCE_REF_LOGP) != 0 || config.kl_coef > 0) {
    RETORT_ASSIGN_OR_RETURN(reference, PolicyReference::Open(run, base, *trainer));
  }
  if (config.sync_ref_model) trainer->AlsoKeep(reference->State());
  if (from) RETORT_RETURN_IF_ERROR(trainer->Restore(*from));
  Evaluation evaluation(run, base);
  RETORT_RETURN_IF_ERROR(evaluation.Init());
  RolloutMaker rollouts(run, base, *trainer, std::move(records));
  RETORT_RETURN_IF_ERROR(rollouts.Init());
  PolicyLoop loop(run,
                  {.trainer = *trainer,
                   .rollouts = rollouts,
                   .reference = reference ? &*reference : nullptr,
                   .cold_start = cold_start ? &*cold_start : nullptr,
                   .evaluation = evaluation},
                  total_steps, progress);
  RETORT_ASSIGN_OR_RETURN(const checkpoint::Found last, loop.Run());
  return OutputWithSamples(run, last);
}

}  // namespace retort::host
