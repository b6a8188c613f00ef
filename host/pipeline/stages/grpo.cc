// Prompts to a checkpoint by rewards: rollouts of the weights as they are, advantages, and some
// optimizer steps on them, over and over. Checkpoints stand between rollouts, so that a stopped
// run draws the same ones again and goes on bit by bit.
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
#include "host/pipeline/stages/evaluation.h"
#include "host/pipeline/stages/policy_batches.h"
#include "host/pipeline/stages/policy_log.h"
#include "host/pipeline/stages/policy_reference.h"
#include "host/pipeline/stages/rollouts.h"
#include "host/pipeline/stages/stage_trainer.h"
#include "host/pipeline/stages/token_advantages.h"

namespace retort::host {
namespace {

struct Progress {
  int64_t step = 0;            // optimizer steps done
  int64_t position = 0;        // prompts used up
  int64_t tokens = 0;          // through the model
  int64_t samples_offset = 0;  // bytes of samples.jsonl
  int64_t evaluated = 0;       // step of the last evaluation

  std::string ToJson() const {
    json::Writer writer;
    writer.BeginObject().Field("step", step).Field("position", position).Field("tokens", tokens);
    writer.Field("samples_offset", samples_offset).Field("evaluated", evaluated);
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
    return progress;
  }
};

class PolicyLoop {
 public:
  PolicyLoop(StageRun& run, StageTrainer& trainer, RolloutMaker& rollouts, Evaluation& evaluation,
             std::optional<PolicyReference> reference, int64_t total_steps, Progress progress)
      : run_(run),
        config_(run.stage->grpo),
        trainer_(trainer),
        rollouts_(rollouts),
        evaluation_(evaluation),
        reference_(std::move(reference)),
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
    RETORT_ASSIGN_OR_RETURN(TokenValues values, Measure(rollouts));
    if (config_.algorithm == "ppo") {
      SetTokenAdvantages(&rollouts, &values);
    } else {
      SubtractDivergence(values, &rollouts);
      SetAdvantages(&rollouts);
    }
    const double score_seconds = score_watch.Seconds();
    RETORT_RETURN_IF_ERROR(
        AppendSamples(rollouts, rollouts_.reward_names(), progress_.step, samples));
    FaultPoint("rollouts.written");
    run_.numbers.Add("generate_seconds", rollouts.generate_seconds);
    run_.numbers.Add("reward_seconds", rollouts.reward_seconds);
    run_.numbers.Add("score_seconds", score_seconds);
    run_.numbers.Add("samples", static_cast<double>(rollouts.samples.size()));
    const double floor = EntropyFloor(rollouts, values, config_.top_entropy_quantile);
    const PolicyBatches batches(rollouts, values, floor,
                                graph::TextsMayShareRows(trainer_.model().graph()));
    for (int64_t pass = 0; pass < config_.num_iterations; ++pass) {
      RETORT_RETURN_IF_ERROR(Pass(rollouts, batches, pass, score_seconds));
    }
    progress_.position = rollouts.position;
    return OkStatus();
  }

  void WarnOfNothingToLearn(const Rollouts& rollouts) {
    run_.Warn("step " + std::to_string(progress_.step + 1) +
              ": all rewards were equal in each of " + std::to_string(rollouts.drawn_groups) +
              " groups that dynamic_sampling drew, so no weight changes. Look at the rewards in "
              "samples.jsonl, take easier prompts or more of them (num_generations)");
  }

  // Every group once, in steps_per_generation steps.
  Status Pass(const Rollouts& rollouts, const PolicyBatches& batches, int64_t pass,
              double score_seconds) {
    std::vector<size_t> order(rollouts.rewards.size());
    std::iota(order.begin(), order.end(), size_t{0});
    Shuffle(Derive(Derive(run_.key(), "minibatches"), static_cast<uint64_t>(progress_.step)),
            &order);
    const auto steps = static_cast<size_t>(config_.steps_per_generation);
    for (size_t s = 0; s < steps && progress_.step < total_steps_; ++s) {
      const size_t begin = order.size() * s / steps, end = order.size() * (s + 1) / steps;
      const std::span<const size_t> groups(order.data() + begin, end - begin);
      const bool first = pass == 0 && s == 0;
      RETORT_RETURN_IF_ERROR(Step(rollouts, batches, groups, first ? score_seconds : -1));
    }
    return OkStatus();
  }

  Status Step(const Rollouts& rollouts, const PolicyBatches& batches,
              std::span<const size_t> groups, double score_seconds) {
    const int64_t limit =
        config_.micro_batch_tokens > 0 ? config_.micro_batch_tokens : kPolicyMicroBatch;
    const std::vector<engine::MicroBatch> window = batches.Make(groups, limit);
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
               .value = MeanOf(rollouts.total)});
    return Log(*result, rollouts, rate, watch.Seconds(), score_seconds);
  }

  // Log-probabilities of the completions under the policy as it drew them and the reference.
  Result<TokenValues> Measure(const Rollouts& rollouts) {
    TokenValues values;
    const bool several = config_.steps_per_generation * config_.num_iterations > 1;
    const bool entropy = config_.top_entropy_quantile < 1;
    const bool divergence = config_.kl_coef > 0, want_values = config_.algorithm == "ppo";
    const std::vector<std::vector<int32_t>> ids = JoinedIds(rollouts.samples);
    const auto score = [&](engine::Model& model, int32_t adapter, bool want_entropy,
                           bool values_too) -> Result<std::vector<engine::ScoreResult>> {
      std::vector<engine::ScoreRequest> requests =
          ScoreRequests(rollouts.samples, ids, adapter, config_.sampling.temperature);
      for (engine::ScoreRequest& request : requests) {
        request.want_entropy = want_entropy;
        request.want_values = values_too;
      }
      return model.Score(requests, 0, run_.options->cancel, {});
    };
    if (several || entropy || divergence || want_values) {
      RETORT_ASSIGN_OR_RETURN(std::vector<engine::ScoreResult> results,
                              score(trainer_.model(), trainer_.adapter(), entropy, want_values));
      for (engine::ScoreResult& result : results) {
        values.old_logp.push_back(std::move(result.logp));
        if (entropy) values.entropy.push_back(std::move(result.entropy));
        if (want_values) values.old_value.push_back(std::move(result.values));
      }
    }
    if (reference_) {
      RETORT_ASSIGN_OR_RETURN(std::vector<engine::ScoreResult> results,
                              score(reference_->weights(), reference_->adapter(), false, false));
      for (engine::ScoreResult& result : results) values.ref_logp.push_back(std::move(result.logp));
    }
    return values;
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
        ScoresByReward(*rollouts, rollouts_.reward_names().size());
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

  Status Log(const engine::StepResult& result, const Rollouts& rollouts, double rate,
             double train_seconds, double score_seconds) {
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
      WriteRollouts(rollouts, rollouts_.reward_names(), writer);
      writer.Field("train_seconds", train_seconds);
      if (score_seconds < 0) return;  // the rollouts are those of an earlier step
      writer.Field("generate_seconds", rollouts.generate_seconds);
      writer.Field("reward_seconds", rollouts.reward_seconds);
      writer.Field("score_seconds", score_seconds);
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
    return trainer_.Save(run_,
                         {.step = progress_.step,
                          .tokens = progress_.tokens,
                          .epoch = Epoch(),
                          .progress = progress_.ToJson()},
                         final_one);
  }

  StageRun& run_;
  const GrpoStage& config_;
  StageTrainer& trainer_;
  RolloutMaker& rollouts_;
  Evaluation& evaluation_;
  std::optional<PolicyReference> reference_;
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
  run.numbers.Set("steps", static_cast<double>(total_steps));
  run.numbers.Set("prompts", static_cast<double>(records.size()));
  if (from && IsLast(*from, total_steps)) return OutputWithSamples(run, *from);
  engine::TrainerOptions options;
  options.temperature = config.sampling.temperature;
  options.max_completion_length = static_cast<double>(config.sampling.max_tokens);
  options.micro_batch_tokens =
      config.micro_batch_tokens > 0 ? config.micro_batch_tokens : kPolicyMicroBatch;
  RETORT_ASSIGN_OR_RETURN(const std::unique_ptr<StageTrainer> trainer,
                          StageTrainer::Create(run, base, total_steps, from, std::move(options)));
  std::optional<PolicyReference> reference;
  if ((trainer->sequence_needs() & RETORT_SEQUENCE_REF_LOGP) != 0 || config.kl_coef > 0) {
    RETORT_ASSIGN_OR_RETURN(reference, PolicyReference::Open(run, base, *trainer));
  }
  Evaluation evaluation(run, base);
  RETORT_RETURN_IF_ERROR(evaluation.Init());
  RolloutMaker rollouts(run, base, *trainer, std::move(records));
  RETORT_RETURN_IF_ERROR(rollouts.Init());
  PolicyLoop loop(run, *trainer, rollouts, evaluation, std::move(reference), total_steps, progress);
  RETORT_ASSIGN_OR_RETURN(const checkpoint::Found last, loop.Run());
  return OutputWithSamples(run, last);
}

}  // namespace retort::host
