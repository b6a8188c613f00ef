// SPDX-License-Identifier: Apache-2.0
#include "host/chain/filter_chain.h"

#include <utility>

#include "core/base/rng.h"
#include "host/chain/entries.h"
#include "host/chain/filter_calls.h"

namespace retort::host {
namespace {

// Rules about the entry's rewards that only the instance knows.
Status CheckRewards(const FilterChain::Entry& entry, const std::string& where) {
  const uint32_t flags = entry.table->flags;
  if ((flags & RETORT_FILTER_NEEDS_SCORES) != 0 && entry.rewards.empty()) {
    return InvalidArgument(where + ": filter \"" + entry.name +
                           "\" judges by scores: give the entry \"rewards\", a reward chain");
  }
  if ((flags & RETORT_FILTER_NEEDS_ANSWERS) != 0 && !entry.rewards.has_answers()) {
    return InvalidArgument(where + ": filter \"" + entry.name +
                           "\" compares answers: give the entry \"rewards\" with one that finds "
                           "answers (number_match, say)");
  }
  return OkStatus();
}

Result<FilterChain::Entry> MakeEntry(Session& session, const EntrySpec& spec, retort_key key) {
  FilterChain::Entry entry;
  entry.name = spec.name;
  entry.counts.name = spec.name;
  entry.on_error = spec.on_error;
  entry.fuse = Fuse(spec.max_error_rate);
  RETORT_ASSIGN_OR_RETURN(entry.instance, CreateEntryPlugin(session, spec, "filter", key));
  entry.table =
      static_cast<const retort_filter_v1*>(entry.instance.interface(RETORT_FILTER_INTERFACE));
  if (entry.table == nullptr) {
    return FailedPrecondition(spec.where + ": plugin \"" + spec.plugin +
                              "\" says it is a filter but has no " RETORT_FILTER_INTERFACE
                              "; it needs an update");
  }
  RETORT_ASSIGN_OR_RETURN(entry.rewards,
                          RewardChain::Create(session, spec.rewards, key, spec.where + ".rewards"));
  RETORT_RETURN_IF_ERROR(CheckRewards(entry, spec.where));
  return entry;
}

// A rewrite loses what no longer belongs to the text: ids, logp, scores.
Status Rewrite(const Decision& decision, data::Sample& sample) {
  if (decision.record.has_value()) {
    const Result<json::Document> record = json::Document::Parse(*decision.record, "new record");
    if (!record.ok()) return record.status();
    if (!record->root().is_object()) return InvalidArgument("the new record is no JSON object");
    sample.record = *decision.record;
  }
  if (decision.completion.has_value()) sample.completion = *decision.completion;
  sample.prompt_ids.clear();
  sample.completion_ids.clear();
  sample.logp.clear();
  sample.n_prefix = 0;
  sample.tokenizer.clear();
  sample.rewards.clear();
  return OkStatus();
}

// Carries a decision out: true if the sample was rewritten. Afterwards the action is KEEP, DROP or
// ERROR, the latter two with a reason.
bool Apply(Decision& decision, data::Sample& sample) {
  bool rewritten = false;
  if (decision.action == RETORT_REWRITE) {
    const Status status = Rewrite(decision, sample);
    rewritten = status.ok();
    decision.action = rewritten ? RETORT_KEEP : RETORT_ERROR;
    if (!rewritten) decision.reason = status.message();
  } else if (decision.action > RETORT_ERROR) {
    decision.reason = "unknown action " + std::to_string(decision.action);
    decision.action = RETORT_ERROR;
  }
  if (decision.reason.empty()) decision.reason = "(the plugin gave no reason)";
  return rewritten;
}

// A sample that an entry could not judge: an error of the stage if the entry says so.
Status NoteError(FilterChain::Entry& entry, const data::Sample& sample, const std::string& reason) {
  const std::string text = "sample " + data::UidToHex(sample.uid) + ": " + reason;
  entry.fuse.Note(text);
  if (entry.on_error == OnError::kSkip) return OkStatus();
  return {Code::kAborted, "filter " + entry.name + " (on_error \"fail\") could not judge " + text};
}

void KeepScores(const RewardChain& rewards, const RewardTable& table, size_t row,
                data::Sample& sample) {
  for (size_t c = 0; c < rewards.size(); ++c) {
    data::RewardScore* slot = nullptr;
    for (data::RewardScore& score : sample.rewards) {
      if (score.name == rewards.names()[c]) slot = &score;
    }
    if (slot == nullptr) slot = &sample.rewards.emplace_back();
    slot->name = rewards.names()[c];
    slot->value.reset();
    if (table.status_at(row, c) == ScoreStatus::kOk) slot->value = table.score_at(row, c);
  }
}

}  // namespace

std::string AuditEntry::ToJson() const {
  json::Writer out;
  out.BeginObject().Field("uid", data::UidToHex(uid)).Field("plugin", plugin);
  out.Field("reason", reason);
  if (error) out.Field("error", true);
  return out.EndObject().Take();
}

struct FilterChain::Pass {
  std::vector<data::Sample> samples;
  std::vector<size_t> input;
  std::vector<uint8_t> rewritten;
};

Result<FilterChain> FilterChain::Create(Session& session, const json::Value& entries,
                                        retort_key key, std::string_view what) {
  RETORT_RETURN_IF_ERROR(session.EnsurePlugins());
  RETORT_ASSIGN_OR_RETURN(const std::vector<EntrySpec> specs, ReadEntries(entries, "filter", what));
  FilterChain chain;
  for (size_t i = 0; i < specs.size(); ++i) {
    const RngKey own = Derive(Derive({key.hi, key.lo}, "filter"), i);
    RETORT_ASSIGN_OR_RETURN(Entry entry, MakeEntry(session, specs[i], {own.hi, own.lo}));
    chain.entries_.push_back(std::move(entry));
  }
  return chain;
}

bool FilterChain::needs_ids() const {
  for (const Entry& entry : entries_) {
    if ((entry.table->flags & RETORT_FILTER_NEEDS_IDS) != 0 || entry.rewards.needs_ids()) {
      return true;
    }
  }
  return false;
}

bool FilterChain::streams() const {
  for (const Entry& entry : entries_) {
    if (entry.table->n_observe_passes > 0) return false;
  }
  return true;
}

Result<FilterOutcome> FilterChain::Run(std::vector<data::Sample> samples, const ChainCall& call) {
  Pass pass;
  pass.samples = std::move(samples);
  pass.rewritten.assign(pass.samples.size(), 0);
  for (size_t i = 0; i < pass.samples.size(); ++i) pass.input.push_back(i);
  FilterOutcome outcome;
  for (size_t i = 0; i < entries_.size(); ++i) {
    RETORT_RETURN_IF_ERROR(RunEntry(entries_[i], i, call, pass, outcome));
  }
  outcome.kept = std::move(pass.samples);
  outcome.input = std::move(pass.input);
  outcome.rewritten = std::move(pass.rewritten);
  return outcome;
}

Status FilterChain::RunEntry(Entry& entry, size_t index, const ChainCall& call, Pass& pass,
                             FilterOutcome& outcome) {
  RETORT_ASSIGN_OR_RETURN(const RewardTable table, entry.rewards.Score(pass.samples, call));
  const bool with_ids = (entry.table->flags & RETORT_FILTER_NEEDS_IDS) != 0;
  std::vector<Decision> decisions;
  {
    RETORT_ASSIGN_OR_RETURN(const SampleViews views,
                            SampleViews::Create(pass.samples, with_ids, call.tokenizer));
    const FilterPlugin plugin{entry.name, entry.instance.get(), entry.table, index};
    RETORT_ASSIGN_OR_RETURN(decisions, CallFilter(plugin, views, entry.rewards, table, call));
  }

  Pass next;
  uint64_t errors = 0;
  for (size_t i = 0; i < decisions.size(); ++i) {
    data::Sample& sample = pass.samples[i];
    KeepScores(entry.rewards, table, i, sample);
    const bool rewritten = Apply(decisions[i], sample);
    if (decisions[i].action == RETORT_KEEP) {
      entry.counts.n_rewritten += rewritten ? 1 : 0;
      next.samples.push_back(std::move(sample));
      next.input.push_back(pass.input[i]);
      next.rewritten.push_back(rewritten || pass.rewritten[i] != 0 ? 1 : 0);
      continue;
    }
    const bool is_error = decisions[i].action == RETORT_ERROR;
    if (is_error) RETORT_RETURN_IF_ERROR(NoteError(entry, sample, decisions[i].reason));
    errors += is_error ? 1 : 0;
    outcome.audit.push_back(
        {pass.input[i], sample.uid, entry.name, std::move(decisions[i].reason), is_error});
  }
  entry.counts.n_in += decisions.size();
  entry.counts.n_kept += next.samples.size();
  entry.counts.n_errors += errors;
  entry.counts.n_dropped += decisions.size() - next.samples.size() - errors;
  entry.fuse.Count(decisions.size(), errors);
  pass = std::move(next);
  return entry.fuse.Check("filter " + entry.name, /*at_end=*/false);
}

Status FilterChain::Finish() const {
  for (const Entry& entry : entries_) {
    RETORT_RETURN_IF_ERROR(entry.rewards.Finish());
    RETORT_RETURN_IF_ERROR(entry.fuse.Check("filter " + entry.name, /*at_end=*/true));
  }
  return OkStatus();
}

std::vector<RewardCounts> FilterChain::reward_counts() const {
  std::vector<RewardCounts> out;
  for (const Entry& entry : entries_) {
    for (RewardCounts& counts : entry.rewards.counts()) out.push_back(std::move(counts));
  }
  return out;
}

std::vector<FilterCounts> FilterChain::counts() const {
  std::vector<FilterCounts> out;
  for (const Entry& entry : entries_) out.push_back(entry.counts);
  return out;
}

}  // namespace retort::host
