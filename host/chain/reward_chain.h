// A chain of reward plugins: every entry scores every sample, and what could not be measured
// stays apart from what was measured. An error is never a score of 0: it has a status, no score,
// and no part in the weighted sum. Used by score, eval, grpo and by filters with `rewards`.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/plugin_call.h"
#include "core/base/status.h"
#include "core/data/sample.h"
#include "core/json/json.h"
#include "host/chain/chain_call.h"
#include "host/chain/fuse.h"
#include "host/chain/model_reward.h"
#include "host/chain/sample_views.h"
#include "host/plugin/registry.h"
#include "host/session/session.h"
#include "retort/abi/reward.h"

namespace retort::host {

// Equal to the ABI's retort_reward_args.status.
enum class ScoreStatus : uint8_t { kOk = 0, kNotApplicable = 1, kError = 2, kTimeout = 3 };
std::string_view ScoreStatusName(ScoreStatus status);  // "ok", "not_applicable", …

// The results of one Score call: n_samples rows of n_rewards columns, row-major.
struct RewardTable {
  size_t n_samples = 0, n_rewards = 0;
  // NaN unless the status is kOk. Behind a gate: 0 where the gate's score is not positive, and not
  // applicable where the gate was not measured.
  std::vector<double> score;
  std::vector<ScoreStatus> status;
  std::vector<std::string> info;   // what the plugin reported about the sample (JSON), or ""
  std::vector<std::string> error;  // why, where the status is kError or kTimeout; else ""
  std::vector<double> ungated;     // as `score`, before gates; empty: the chain has none
  std::vector<double> reward;      // [n_samples] weighted sum of the kOk scores; NaN: none was kOk
  // [n_samples] answer classes by the first entry that has them: the index of the first sample of
  // the same group with an equal answer, relative to the group's first; -1: no answer. Empty: no
  // entry of the chain has answer classes.
  std::vector<int64_t> first_equal;

  double score_at(size_t sample, size_t column) const { return score[sample * n_rewards + column]; }
  ScoreStatus status_at(size_t sample, size_t column) const {
    return status[sample * n_rewards + column];
  }
};

// Per entry, over the chain's life: samples by what came of them.
struct RewardCounts {
  std::string name;
  uint64_t n_ok = 0, n_not_applicable = 0, n_errors = 0, n_timeouts = 0;
};

class RewardChain {
 public:
  // `entries`: an array (or one entry) of {"plugin", "name", "weight", "gate", "config",
  // "on_error", "max_error_rate", "isolate", "timeout_ms"} or plain ids ("number_match",
  // "reward/format"). Absent: an empty chain. `what` is the key path in errors
  // ("stages.clean.rewards"). Wrong keys, unknown plugins and configs are INVALID_ARGUMENT or
  // NOT_FOUND.
  static Result<RewardChain> Create(Session& session, const json::Value& entries, retort_key key,
                                    std::string_view what = "rewards");
  RewardChain() = default;  // empty
  RewardChain(RewardChain&&) noexcept = default;
  RewardChain& operator=(RewardChain&&) noexcept = default;

  bool empty() const { return entries_.empty(); }
  size_t size() const { return entries_.size(); }
  const std::vector<std::string>& names() const { return names_; }  // of the columns, unique
  std::vector<double> weights() const;
  bool needs_ids() const;    // some entry reads token ids: ChainCall.tokenizer must be set
  bool has_answers() const;  // some entry has answer classes
  bool is_gated(size_t column) const { return entries_[column].gate.has_value(); }
  bool uses_engine() const;  // some entry is a model: not while another thread uses the engine

  // Scores samples; those of a group are adjacent. Entries get batches of about their preferred
  // size, GROUPWISE entries whole groups only. CANCELLED when asked to stop; ABORTED when an entry
  // with on_error "fail" met an error, or an entry's share of errors blew its fuse.
  Result<RewardTable> Score(std::span<const data::Sample> samples, const ChainCall& call);
  // The fuse once more at the end of a stage: small inputs never reach the running check.
  Status Finish() const;
  std::vector<RewardCounts> counts() const;
  // A warning per entry that failed on some samples.
  void LogFailures(const ChainCall& call) const;

  // Writes "rewards": {name: number or null}, "status": {…} and "reward" of one sample into the
  // open object; also "ungated" of rewards behind a gate, "info" where an entry reported something.
  void WriteFields(const RewardTable& table, size_t sample, json::Writer& out) const;

  struct Entry {
    std::string name;
    double weight = 1;
    std::optional<size_t> gate;  // another entry
    OnError on_error = OnError::kSkip;
    Fuse fuse;
    RewardCounts counts;
    PluginInstance instance;
    const retort_reward_v1* table = nullptr;    // NULL: the model gives the reward
    const retort_answer_v1* answers = nullptr;  // or NULL
    std::unique_ptr<ModelReward> model;
  };

 private:
  Status ScoreEntry(size_t column, const SampleViews& views, const ChainCall& call,
                    RewardTable& table);
  // Of an entry that is a model: all samples at once.
  Status ScoreByModel(size_t column, std::span<const data::Sample> samples, const ChainCall& call,
                      RewardTable& table);
  Status ScoreBatch(size_t column, const SampleViews& views, SampleRange range, PluginCall& plugin,
                    const ChainCall& call, RewardTable& table);
  void ApplyGates(RewardTable& table) const;
  Status FindAnswers(Entry& entry, const SampleViews& views, const ChainCall& call,
                     RewardTable& table);

  // A cell that failed: counted, and a failure of the stage if the entry says so.
  Status NoteFailure(size_t column, uint64_t uid, const std::string& why);

  std::vector<Entry> entries_;
  std::vector<std::string> names_;
  std::vector<size_t> gated_;  // entries behind gates, each after its gate
};

}  // namespace retort::host
