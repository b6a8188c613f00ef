// SPDX-License-Identifier: Apache-2.0
#include "host/chain/reward_chain.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/base/rng.h"
#include "host/chain/entries.h"
#include "host/library/guard.h"

namespace retort::host {
namespace {

constexpr json::ParseOptions kInfoLimits = {.max_bytes = uint64_t{16} << 20};
constexpr size_t kShownInfo = 200;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Result<RewardChain::Entry> MakeEntry(Session& session, const EntrySpec& spec, retort_key key) {
  RewardChain::Entry entry;
  entry.name = spec.name;
  entry.weight = spec.weight;
  entry.gate = spec.gate;
  entry.counts.name = spec.name;
  entry.on_error = spec.on_error;
  entry.fuse = Fuse(spec.max_error_rate);
  if (spec.model) {
    entry.model = std::make_unique<ModelReward>(session, *spec.model);
    return entry;
  }
  RETORT_ASSIGN_OR_RETURN(entry.instance, CreateEntryPlugin(session, spec, "reward", key));
  entry.table =
      static_cast<const retort_reward_v1*>(entry.instance.interface(RETORT_REWARD_INTERFACE));
  entry.answers =
      static_cast<const retort_answer_v1*>(entry.instance.interface(RETORT_ANSWER_INTERFACE));
  if (entry.table == nullptr) {
    return FailedPrecondition(spec.where + ": plugin \"" + spec.plugin +
                              "\" says it is a reward but has no " RETORT_REWARD_INTERFACE
                              "; it needs an update");
  }
  return entry;
}

// Where `info` of a batch goes.
struct InfoTarget {
  RewardTable* table;
  SampleRange range;
  size_t column;
};

// What goes into the output as it is must be JSON; a plugin's mistake is kept as a text.
void TakeInfo(void* ctx, uint64_t index, retort_str json) {
  const auto& target = *static_cast<InfoTarget*>(ctx);
  if (index >= target.range.n) return;  // no such sample: the checked wrapper tells on it
  const size_t cell = (target.range.first + index) * target.table->n_rewards + target.column;
  (void)Guard([&] {
    const Result<json::Document> info = json::Document::Parse(ToView(json), "info", kInfoLimits);
    if (info.ok() && info->root().is_object()) {
      target.table->info[cell] = ToView(json);
    } else {
      json::Writer out;
      out.BeginObject().Field("not_json", ToView(json).substr(0, kShownInfo)).EndObject();
      target.table->info[cell] = out.Take();
    }
    return OkStatus();
  });
}

// "error" of what was reported about a sample: the checked wrapper and the worker say there why a
// sample could not be measured. "": nothing said.
std::string ReportedError(const std::string& info) {
  if (info.find("\"error\"") == std::string::npos) return {};
  const Result<json::Document> document = json::Document::Parse(info, "info", kInfoLimits);
  return document.ok() ? std::string(document->root()["error"].StringOr("")) : std::string();
}

// The plugin's status byte and score as what the table keeps.
ScoreStatus Judge(uint8_t status, double score, std::string& why) {
  if (status == RETORT_SCORE_NOT_APPLICABLE) return ScoreStatus::kNotApplicable;
  if (status == RETORT_SCORE_OK) {
    if (std::isfinite(score)) return ScoreStatus::kOk;
    why = "the score is not finite";
    return ScoreStatus::kError;
  }
  if (status == RETORT_SCORE_TIMEOUT) {
    why = "the plugin ran out of time";
    return ScoreStatus::kTimeout;
  }
  why = status == RETORT_SCORE_ERROR ? "the plugin could not measure it"
                                     : "unknown status " + std::to_string(status);
  return ScoreStatus::kError;
}

bool IsFailure(ScoreStatus status) {
  return status == ScoreStatus::kError || status == ScoreStatus::kTimeout;
}

void CountOne(ScoreStatus status, RewardCounts& counts) {
  switch (status) {
    case ScoreStatus::kOk: ++counts.n_ok; return;
    case ScoreStatus::kNotApplicable: ++counts.n_not_applicable; return;
    case ScoreStatus::kError: ++counts.n_errors; return;
    case ScoreStatus::kTimeout: ++counts.n_timeouts; return;
  }
}

void SumRewards(const std::vector<RewardChain::Entry>& entries, RewardTable& table) {
  for (size_t i = 0; i < table.n_samples; ++i) {
    double sum = 0;
    bool measured = false;
    for (size_t c = 0; c < entries.size(); ++c) {
      if (table.status_at(i, c) != ScoreStatus::kOk) continue;
      sum += entries[c].weight * table.score_at(i, c);
      measured = true;
    }
    table.reward[i] = measured ? sum : kNaN;
  }
}

// The entries behind gates, those with the fewest gates above them first.
std::vector<size_t> GateOrder(const std::vector<RewardChain::Entry>& entries) {
  std::vector<std::pair<size_t, size_t>> by_depth;
  for (size_t c = 0; c < entries.size(); ++c) {
    size_t depth = 0;
    for (auto at = entries[c].gate; at; at = entries[*at].gate) ++depth;
    if (depth > 0) by_depth.emplace_back(depth, c);
  }
  std::sort(by_depth.begin(), by_depth.end());
  std::vector<size_t> order;
  for (const auto& [depth, column] : by_depth) order.push_back(column);
  return order;
}

}  // namespace

std::string_view ScoreStatusName(ScoreStatus status) {
  switch (status) {
    case ScoreStatus::kOk: return "ok";
    case ScoreStatus::kNotApplicable: return "not_applicable";
    case ScoreStatus::kError: return "error";
    case ScoreStatus::kTimeout: return "timeout";
  }
  return "error";
}

Result<RewardChain> RewardChain::Create(Session& session, const json::Value& entries,
                                        retort_key key, std::string_view what) {
  RETORT_RETURN_IF_ERROR(session.EnsurePlugins());
  RETORT_ASSIGN_OR_RETURN(const std::vector<EntrySpec> specs, ReadEntries(entries, "reward", what));
  RewardChain chain;
  for (size_t i = 0; i < specs.size(); ++i) {
    const RngKey own = Derive(Derive({key.hi, key.lo}, "reward"), i);
    RETORT_ASSIGN_OR_RETURN(Entry entry, MakeEntry(session, specs[i], {own.hi, own.lo}));
    chain.names_.push_back(entry.name);
    chain.entries_.push_back(std::move(entry));
  }
  chain.gated_ = GateOrder(chain.entries_);
  return chain;
}

std::vector<double> RewardChain::weights() const {
  std::vector<double> out;
  for (const Entry& entry : entries_) out.push_back(entry.weight);
  return out;
}

bool RewardChain::needs_ids() const {
  for (const Entry& entry : entries_) {
    if (entry.table != nullptr && (entry.table->flags & RETORT_REWARD_NEEDS_IDS) != 0) return true;
  }
  return false;
}

bool RewardChain::uses_engine() const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [](const Entry& entry) { return entry.model != nullptr; });
}

bool RewardChain::has_answers() const {
  for (const Entry& entry : entries_) {
    if (entry.answers != nullptr) return true;
  }
  return false;
}

Result<RewardTable> RewardChain::Score(std::span<const data::Sample> samples,
                                       const ChainCall& call) {
  RewardTable table;
  table.n_samples = samples.size();
  table.n_rewards = entries_.size();
  const size_t cells = table.n_samples * table.n_rewards;
  table.score.assign(cells, kNaN);
  table.status.assign(cells, ScoreStatus::kError);
  table.info.resize(cells);
  table.error.resize(cells);
  table.reward.assign(table.n_samples, kNaN);
  if (cells == 0) return table;

  RETORT_ASSIGN_OR_RETURN(const SampleViews views,
                          SampleViews::Create(samples, needs_ids(), call.tokenizer));
  for (size_t c = 0; c < entries_.size(); ++c) {
    RETORT_RETURN_IF_ERROR(entries_[c].model ? ScoreByModel(c, samples, call, table)
                                             : ScoreEntry(c, views, call, table));
  }
  for (Entry& entry : entries_) {
    if (entry.answers == nullptr) continue;
    RETORT_RETURN_IF_ERROR(FindAnswers(entry, views, call, table));
    break;
  }
  ApplyGates(table);
  SumRewards(entries_, table);
  return table;
}

void RewardChain::ApplyGates(RewardTable& table) const {
  if (gated_.empty()) return;
  table.ungated = table.score;
  for (size_t i = 0; i < table.n_samples; ++i) {
    for (const size_t column : gated_) {
      const size_t cell = i * table.n_rewards + column;
      const size_t gate = i * table.n_rewards + *entries_[column].gate;
      if (table.status[cell] != ScoreStatus::kOk) continue;
      if (table.status[gate] != ScoreStatus::kOk) {
        table.status[cell] = ScoreStatus::kNotApplicable;
        table.score[cell] = kNaN;
      } else if (!(table.score[gate] > 0)) {
        table.score[cell] = 0;
      }
    }
  }
}

Status RewardChain::ScoreByModel(size_t column, std::span<const data::Sample> samples,
                                 const ChainCall& call, RewardTable& table) {
  Entry& entry = entries_[column];
  const Result<std::vector<std::optional<double>>> scores =
      entry.model->Score(samples, call.cancel);
  if (!scores.ok()) return scores.status().WithContext("reward " + entry.name);
  uint64_t errors = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    const size_t cell = i * table.n_rewards + column;
    const std::optional<double> score = (*scores)[i];
    const uint8_t judged = score ? RETORT_SCORE_OK : RETORT_SCORE_NOT_APPLICABLE;
    table.status[cell] = Judge(judged, score.value_or(0), table.error[cell]);
    CountOne(table.status[cell], entry.counts);
    if (table.status[cell] == ScoreStatus::kOk) table.score[cell] = *score;
    if (!IsFailure(table.status[cell])) continue;
    ++errors;
    RETORT_RETURN_IF_ERROR(NoteFailure(column, samples[i].uid, table.error[cell]));
  }
  entry.fuse.Count(samples.size(), errors);
  RETORT_RETURN_IF_ERROR(entry.fuse.Check("reward " + entry.name, /*at_end=*/false));
  if (column + 1 == entries_.size() && call.on_progress) {
    call.on_progress(static_cast<int64_t>(samples.size()));
  }
  return OkStatus();
}

Status RewardChain::NoteFailure(size_t column, uint64_t uid, const std::string& why) {
  Entry& entry = entries_[column];
  const std::string text = "sample " + data::UidToHex(uid) + ": " + why;
  entry.fuse.Note(text);
  if (entry.on_error != OnError::kFail) return OkStatus();
  return {Code::kAborted,
          "reward " + entry.name + " (on_error \"fail\") could not measure " + text};
}

Status RewardChain::ScoreEntry(size_t column, const SampleViews& views, const ChainCall& call,
                               RewardTable& table) {
  Entry& entry = entries_[column];
  PluginCall plugin("reward " + entry.name, SinksOf(call));
  const bool whole_groups = (entry.table->flags & RETORT_REWARD_GROUPWISE) != 0;
  for (const SampleRange range : views.Split(entry.table->preferred_batch, whole_groups)) {
    if (IsCancelled(call)) return retort::Cancelled("stopped while scoring");
    RETORT_RETURN_IF_ERROR(ScoreBatch(column, views, range, plugin, call, table));
    RETORT_RETURN_IF_ERROR(entry.fuse.Check("reward " + entry.name, /*at_end=*/false));
    // Progress counts samples through the whole chain: the last entry finishes them.
    if (column + 1 == entries_.size() && call.on_progress) {
      call.on_progress(static_cast<int64_t>(range.first + range.n));
    }
  }
  return OkStatus();
}

Status RewardChain::ScoreBatch(size_t column, const SampleViews& views, SampleRange range,
                               PluginCall& plugin, const ChainCall& call, RewardTable& table) {
  Entry& entry = entries_[column];
  const std::vector<retort_sample> batch = views.Batch(range);
  std::vector<double> score(range.n, kNaN);
  std::vector<uint8_t> status(range.n, RETORT_SCORE_ERROR);
  InfoTarget target{&table, range, column};
  retort_reward_args args{};
  args.struct_size = sizeof args;
  args.sample_stride = sizeof(retort_sample);
  args.samples = batch.data();
  args.n = batch.size();
  args.score = score.data();
  args.status = status.data();
  args.info_ctx = &target;
  args.info = TakeInfo;

  const RngKey own = Derive({call.key.hi, call.key.lo}, column);
  const retort_call* begun = plugin.Begin({.cancel = call.cancel,
                                           .step = call.step,
                                           .key = {own.hi, own.lo},
                                           .n_threads = call.n_threads});
  const Status outcome =
      plugin.End(entry.table->score(entry.instance.get(), begun, &args), "score");
  if (!outcome.ok() && IsCancelled(call)) return retort::Cancelled("stopped while scoring");

  uint64_t errors = 0;
  for (size_t i = 0; i < range.n; ++i) {
    const size_t cell = (range.first + i) * table.n_rewards + column;
    std::string& why = table.error[cell];
    if (!outcome.ok()) why = outcome.message();
    table.status[cell] = outcome.ok() ? Judge(status[i], score[i], why) : ScoreStatus::kError;
    CountOne(table.status[cell], entry.counts);
    if (table.status[cell] == ScoreStatus::kOk) table.score[cell] = score[i];
    if (!IsFailure(table.status[cell])) continue;
    ++errors;
    const std::string reported = ReportedError(table.info[cell]);
    if (outcome.ok() && !reported.empty()) why = reported;
    RETORT_RETURN_IF_ERROR(NoteFailure(column, batch[i].uid, why));
  }
  entry.fuse.Count(range.n, errors);
  return OkStatus();
}

std::vector<RewardCounts> RewardChain::counts() const {
  std::vector<RewardCounts> out;
  for (const Entry& entry : entries_) out.push_back(entry.counts);
  return out;
}

void RewardChain::LogFailures(const ChainCall& call) const {
  if (!call.log) return;
  for (const Entry& entry : entries_) {
    const RewardCounts& n = entry.counts;
    if (n.n_errors + n.n_timeouts == 0) continue;
    call.log(RETORT_LOG_WARNING,
             "reward " + entry.name + ": " + std::to_string(n.n_errors) + " errors and " +
                 std::to_string(n.n_timeouts) + " timeouts on " +
                 std::to_string(n.n_ok + n.n_not_applicable + n.n_errors + n.n_timeouts) +
                 " samples; the first: " + entry.fuse.first_error());
  }
}

Status RewardChain::FindAnswers(Entry& entry, const SampleViews& views, const ChainCall& call,
                                RewardTable& table) {
  PluginCall plugin("reward " + entry.name, SinksOf(call));
  table.first_equal.assign(table.n_samples, -1);
  for (const GroupSpan& group : views.groups()) {
    if (IsCancelled(call)) return retort::Cancelled("stopped while comparing answers");
    const std::vector<retort_sample> batch = views.Batch({group.first, group.n});
    int64_t* first_equal = table.first_equal.data() + group.first;
    const retort_call* begun = plugin.Begin(
        {.cancel = call.cancel, .step = call.step, .key = call.key, .n_threads = call.n_threads});
    const Status found =
        plugin.End(entry.answers->classes(entry.instance.get(), begun, batch.data(),
                                          sizeof(retort_sample), batch.size(), first_equal),
                   "compare the answers of a group");
    if (!found.ok()) {
      if (IsCancelled(call)) return retort::Cancelled("stopped while comparing answers");
      if (entry.on_error == OnError::kFail) return found;
      // Unmeasured, not unequal: it counts against the fuse, and nobody votes in this group.
      std::fill_n(first_equal, group.n, -1);
      entry.fuse.Note(found.message());
      entry.fuse.Count(0, group.n);
      continue;
    }
    for (size_t i = 0; i < group.n; ++i) {
      const int64_t first = first_equal[i];
      const bool fits = first == -1 || (first >= 0 && first <= static_cast<int64_t>(i) &&
                                        first_equal[first] == first);
      if (fits) continue;
      return Internal("reward " + entry.name + ": sample " + std::to_string(i) +
                      " of a group has answer class " + std::to_string(first) +
                      ", which is not the first of its class; the plugin needs a fix");
    }
  }
  return OkStatus();
}

Status RewardChain::Finish() const {
  for (const Entry& entry : entries_) {
    RETORT_RETURN_IF_ERROR(entry.fuse.Check("reward " + entry.name, /*at_end=*/true));
  }
  return OkStatus();
}

void RewardChain::WriteFields(const RewardTable& table, size_t sample, json::Writer& out) const {
  out.Key("rewards").BeginObject();
  for (size_t c = 0; c < entries_.size(); ++c) {
    out.Field(names_[c], table.score_at(sample, c));  // NaN is written as null
  }
  out.EndObject();
  out.Key("status").BeginObject();
  bool has_info = false;
  for (size_t c = 0; c < entries_.size(); ++c) {
    out.Field(names_[c], ScoreStatusName(table.status_at(sample, c)));
    has_info = has_info || !table.info[sample * table.n_rewards + c].empty();
  }
  out.EndObject();
  out.Field("reward", table.reward[sample]);
  if (!gated_.empty()) {
    out.Key("ungated").BeginObject();
    for (const size_t c : gated_) out.Field(names_[c], table.ungated[sample * size() + c]);
    out.EndObject();
  }
  if (!has_info) return;
  out.Key("info").BeginObject();
  for (size_t c = 0; c < entries_.size(); ++c) {
    const std::string& info = table.info[sample * table.n_rewards + c];
    if (!info.empty()) out.Key(names_[c]).Raw(info);
  }
  out.EndObject();
}

}  // namespace retort::host
