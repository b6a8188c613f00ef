// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stages/rollout_maker.h"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <numeric>
#include <optional>
#include <queue>
#include <thread>
#include <utility>

#include "core/base/clock.h"
#include "core/base/fault.h"
#include "host/pipeline/sampling.h"
#include "host/pipeline/stage_rewards.h"

namespace retort::host {
namespace {

// Whether all that was measured of a group is one number: nothing to learn from it.
bool IsEqual(const RewardTable& table) {
  std::optional<double> first;
  for (const double reward : table.reward) {
    if (std::isnan(reward)) continue;
    if (first && *first != reward) return false;
    first = reward;
  }
  return true;
}

// Scores groups in a thread of its own, in the order in which they come, while the caller goes on
// sampling.
class Scoring {
 public:
  using Group = std::span<const data::Sample>;
  using Score = std::function<Result<RewardTable>(Group)>;
  Scoring(size_t n_groups, Score score)
      : score_(std::move(score)), tables_(n_groups), thread_([this] { Work(); }) {}
  ~Scoring() {
    if (thread_.joinable()) (void)Finish();
  }

  void Add(size_t group, Group samples) {
    const std::lock_guard lock(mutex_);
    waiting_.emplace(group, std::vector<data::Sample>(samples.begin(), samples.end()));
    changed_.notify_one();
  }

  // Waits for all that was added.
  Result<std::vector<RewardTable>> Finish() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
      changed_.notify_one();
    }
    thread_.join();
    RETORT_RETURN_IF_ERROR(status_);
    return std::move(tables_);
  }
  double seconds() const { return seconds_; }  // after Finish: of the thread's own work

 private:
  void Work() {
    while (const auto next = Next()) {
      if (!status_.ok()) continue;
      const Stopwatch watch;
      Result<RewardTable> table = score_(next->second);
      seconds_ += watch.Seconds();
      if (table.ok()) {
        tables_[next->first] = std::move(table).value();
      } else {
        status_ = table.status();
      }
    }
  }
  std::optional<std::pair<size_t, std::vector<data::Sample>>> Next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return closed_ || !waiting_.empty(); });
    if (waiting_.empty()) return std::nullopt;
    auto next = std::move(waiting_.front());
    waiting_.pop();
    return next;
  }

  Score score_;
  std::vector<RewardTable> tables_;
  std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  std::queue<std::pair<size_t, std::vector<data::Sample>>> waiting_;
  bool closed_ = false;
  Status status_;  // the thread's until it is joined, likewise seconds_
  double seconds_ = 0;
  std::thread thread_;
};

}  // namespace

RolloutMaker::RolloutMaker(StageRun& run, const StageModel& model, StageTrainer& trainer,
                           std::vector<data::Record> records)
    : run_(run),
      config_(run.stage->grpo),
      model_(model),
      trainer_(trainer),
      records_(std::move(records)),
      kept_(run) {}

Status RolloutMaker::Init() {
  const ChainConfig& rewards = config_.rewards;
  RETORT_ASSIGN_OR_RETURN(const json::Document entries,
                          ChainEntriesOf(rewards, *run_.pipeline, run_.folder->path()));
  const RngKey key = Derive(run_.key(), "rewards");
  RETORT_ASSIGN_OR_RETURN(chain_, RewardChain::Create(*run_.session, entries.root(),
                                                      {key.hi, key.lo}, rewards.key_path));
  return OkStatus();
}

data::Record RolloutMaker::PromptAt(int64_t position) const {
  const auto n = static_cast<int64_t>(records_.size());
  const int64_t epoch = position / n;
  if (epoch != order_epoch_) {
    order_.resize(records_.size());
    std::iota(order_.begin(), order_.end(), size_t{0});
    Shuffle(Derive(Derive(run_.key(), "prompts"), static_cast<uint64_t>(epoch)), &order_);
    order_epoch_ = epoch;
  }
  return records_[order_[static_cast<size_t>(position % n)]];
}

Result<RewardTable> RolloutMaker::Score(std::span<const data::Sample> group, int64_t step) {
  const RngKey key = Derive(Derive(run_.key(), "reward"), static_cast<uint64_t>(step));
  ChainCall call;
  call.cancel = run_.options->cancel;
  call.step = step;
  call.key = {key.hi, key.lo};
  call.tokenizer = model_.opened->tokenizer.get();
  return chain_.Score(group, call);
}

// `count` further groups. Every prompt of a round differs: a prompt that comes twice (a small data
// set) gets a uid that names the visit.
Status RolloutMaker::Draw(int64_t step, int64_t round, int64_t count, Rollouts* out) {
  std::vector<data::Record> prompts;
  for (int64_t i = 0; i < count; ++i) {
    data::Record record = PromptAt(out->position + i);
    record.uid = Derive(RngKey{record.uid, static_cast<uint64_t>(out->position + i)}, "visit").lo;
    prompts.push_back(std::move(record));
  }
  const RngKey key = Derive(Derive(run_.key(), "rollouts"), static_cast<uint64_t>(step),
                            static_cast<uint64_t>(round));
  const SampleJob job = {.model = &model_,
                         .weights = &trainer_.model(),
                         .adapter = trainer_.adapter(),
                         .records = prompts,
                         .samples = config_.num_generations,
                         .decoding = &config_.decoding,
                         .chat = &config_.chat,
                         .prefix = config_.prefix,
                         .sampling = &config_.sampling,
                         .seed = key.lo};
  const Stopwatch watch;
  Scoring scoring(prompts.size(), [&](Scoring::Group group) { return Score(group, step); });
  const bool beside = !chain_.uses_engine();
  RETORT_ASSIGN_OR_RETURN(std::vector<data::Sample> samples,
                          DrawSamples(run_, job, [&](size_t record, Scoring::Group group) {
                            if (beside) scoring.Add(record, group);
                          }));
  const auto size = static_cast<size_t>(config_.num_generations);
  for (size_t g = 0; !beside && g < prompts.size(); ++g) {
    scoring.Add(g, std::span(samples).subspan(g * size, size));
  }
  out->generate_seconds += watch.Seconds();
  RETORT_ASSIGN_OR_RETURN(std::vector<RewardTable> tables, scoring.Finish());
  out->reward_seconds += scoring.seconds();
  if (run_.cancelled()) return run_.CancelledStatus();
  for (size_t g = 0; g < prompts.size(); ++g) {
    const bool equal = IsEqual(tables[g]);
    ++out->drawn_groups;
    out->equal_groups += equal ? 1 : 0;
    if (equal && config_.dynamic_sampling) continue;
    out->rewards.push_back(std::move(tables[g]));
    for (size_t i = g * size; i < (g + 1) * size; ++i)
      out->samples.push_back(std::move(samples[i]));
  }
  out->position += count;
  return OkStatus();
}

Result<Rollouts> RolloutMaker::DrawAll(int64_t step, int64_t position) {
  Rollouts out;
  out.position = position;
  const int64_t rounds = config_.dynamic_sampling ? 1 + config_.max_resamples : 1;
  for (int64_t round = 0; round < rounds; ++round) {
    const auto groups = static_cast<int64_t>(out.rewards.size());
    if (groups == config_.prompts_per_step) break;
    RETORT_RETURN_IF_ERROR(Draw(step, round, config_.prompts_per_step - groups, &out));
  }
  return out;
}

Result<std::optional<Rollouts>> RolloutMaker::Kept(int64_t step, int64_t position) {
  Result<std::optional<Rollouts>> kept = kept_.Read(step, position, chain_.size());
  if (kept.status().code() == Code::kDataLoss) {
    run_.Warn(kept.status().message() + "; the round is drawn anew");
    return std::optional<Rollouts>();
  }
  if (kept.ok() && *kept && !std::exchange(told_of_kept_, true)) {
    run_.Resumed("completions after step " + std::to_string(step) +
                 " were drawn and scored before the stop; they are taken as they are");
  }
  return kept;
}

Result<Rollouts> RolloutMaker::Make(int64_t step, int64_t position) {
  RETORT_ASSIGN_OR_RETURN(std::optional<Rollouts> out, Kept(step, position));
  if (!out) {
    RETORT_ASSIGN_OR_RETURN(out, DrawAll(step, position));
    RETORT_RETURN_IF_ERROR(kept_.Write(step, position, *out));
    FaultPoint("rollouts.kept");
  }
  for (const RewardTable& table : out->rewards) {
    out->total.insert(out->total.end(), table.reward.begin(), table.reward.end());
  }
  AddPenalty(&*out);
  return std::move(*out);
}

// Soft overlong punishment (DAPO, arXiv 2503.14476, equation 13): none up to the buffer, then
// growing with each token.
void RolloutMaker::AddPenalty(Rollouts* out) const {
  if (config_.overlong_buffer == 0) return;
  const int64_t free = config_.sampling.max_tokens - config_.overlong_buffer;
  for (size_t i = 0; i < out->total.size(); ++i) {
    const auto length = static_cast<int64_t>(out->samples[i].completion_ids.size());
    const double over = static_cast<double>(std::max<int64_t>(length - free, 0)) /
                        static_cast<double>(config_.overlong_buffer);
    out->total[i] -= config_.overlong_penalty * std::min(over, 1.0);
  }
}

Status RolloutMaker::Finish() {
  for (const RewardCounts& n : chain_.counts()) {
    run_.numbers.AddFailures(n.name, n.n_errors, n.n_timeouts);
  }
  return chain_.Finish();
}

}  // namespace retort::host
