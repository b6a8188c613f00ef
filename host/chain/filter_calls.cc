// SPDX-License-Identifier: Apache-2.0
#include "host/chain/filter_calls.h"

#include <algorithm>
#include <span>
#include <utility>

#include "core/base/plugin_call.h"
#include "core/base/rng.h"
#include "host/library/guard.h"

namespace retort::host {
namespace {

// Samples per call: whole groups, enough to spread a call's cost.
constexpr uint64_t kJudgeBatch = 256;

struct DecideTarget {
  std::vector<Decision>* decisions;
  size_t first, n;  // the call's samples
};

std::optional<std::string> CopyIfThere(retort_str text) {
  if (text.ptr == nullptr) return std::nullopt;
  return std::string(ToView(text));
}

void TakeDecision(void* ctx, uint64_t sample, const retort_decision* given) {
  const auto& target = *static_cast<DecideTarget*>(ctx);
  if (sample >= target.n) return;  // no such sample: the checked wrapper tells on it
  (void)Guard([&] {
    Decision decision;
    decision.action = given->action;
    decision.reason = ToView(given->reason);
    decision.completion = CopyIfThere(given->completion);
    decision.record = CopyIfThere(given->record);
    (*target.decisions)[target.first + sample] = std::move(decision);
    return OkStatus();
  });
}

// Arguments over a range of whole groups; borrows everything.
class FilterArgs {
 public:
  FilterArgs(const SampleViews& views, const RewardChain& rewards, const RewardTable& table)
      : views_(views), table_(table), weights_(rewards.weights()) {
    for (const std::string& name : rewards.names()) names_.push_back(name.c_str());
    for (const std::string& text : table.info) {
      info_.push_back(text.empty() ? retort_str{} : ToStr(text));
    }
  }

  retort_filter_args& At(SampleRange range, uint32_t pass) {
    batch_ = views_.Batch(range);
    groups_.clear();
    const std::span<const GroupSpan> all = views_.groups();
    auto group =
        std::lower_bound(all.begin(), all.end(), range.first,
                         [](const GroupSpan& span, size_t first) { return span.first < first; });
    for (; group != all.end() && group->first < range.first + range.n; ++group) {
      groups_.push_back({group->first - range.first, group->n, group->record_uid});
    }
    args_ = {};
    args_.struct_size = sizeof args_;
    args_.sample_stride = sizeof(retort_sample);
    args_.group_stride = sizeof(retort_group);
    args_.pass = pass;
    args_.samples = batch_.data();
    args_.n_samples = batch_.size();
    args_.groups = groups_.data();
    args_.n_groups = groups_.size();
    if (names_.empty()) return args_;
    const size_t cell = range.first * names_.size();
    args_.reward_names = names_.data();
    args_.n_rewards = names_.size();
    args_.reward_weights = weights_.data();
    args_.scores = table_.score.data() + cell;
    static_assert(sizeof(ScoreStatus) == 1);
    args_.score_status = reinterpret_cast<const uint8_t*>(table_.status.data() + cell);
    if (!table_.first_equal.empty()) args_.first_equal = table_.first_equal.data() + range.first;
    args_.info = info_.data() + cell;
    return args_;
  }

 private:
  const SampleViews& views_;
  const RewardTable& table_;
  std::vector<double> weights_;
  std::vector<const char*> names_;
  std::vector<retort_str> info_;
  std::vector<retort_sample> batch_;
  std::vector<retort_group> groups_;
  retort_filter_args args_{};
};

PluginCallSettings SettingsOf(const ChainCall& call, size_t index) {
  const RngKey own = Derive(Derive({call.key.hi, call.key.lo}, "filter"), index);
  return {.cancel = call.cancel,
          .step = call.step,
          .key = {own.hi, own.lo},
          .n_threads = call.n_threads};
}

Status Observe(const FilterPlugin& filter, const SampleViews& views, FilterArgs& args,
               PluginCall& plugin, const ChainCall& call) {
  const PluginCallSettings settings = SettingsOf(call, filter.index);
  for (uint32_t pass = 0; pass < filter.table->n_observe_passes; ++pass) {
    for (const SampleRange range : views.Split(kJudgeBatch, /*whole_groups=*/true)) {
      if (IsCancelled(call)) return Cancelled("stopped while filtering");
      const retort_filter_args& given = args.At(range, pass);
      RETORT_RETURN_IF_ERROR(plugin.End(
          filter.table->observe(filter.instance, plugin.Begin(settings), &given), "observe"));
    }
    RETORT_RETURN_IF_ERROR(plugin.End(
        filter.table->end_pass(filter.instance, plugin.Begin(settings), pass), "end a pass"));
  }
  return OkStatus();
}

Status JudgeAll(const FilterPlugin& filter, const SampleViews& views, FilterArgs& args,
                PluginCall& plugin, const ChainCall& call, std::vector<Decision>& decisions) {
  const PluginCallSettings settings = SettingsOf(call, filter.index);
  for (const SampleRange range : views.Split(kJudgeBatch, /*whole_groups=*/true)) {
    if (IsCancelled(call)) return Cancelled("stopped while filtering");
    DecideTarget target{&decisions, range.first, range.n};
    retort_filter_args& given = args.At(range, filter.table->n_observe_passes);
    given.out_ctx = &target;
    given.decide = TakeDecision;
    const Status outcome =
        plugin.End(filter.table->judge(filter.instance, plugin.Begin(settings), &given), "judge");
    if (outcome.ok()) continue;
    if (IsCancelled(call)) return Cancelled("stopped while filtering");
    for (size_t i = 0; i < range.n; ++i) {
      decisions[range.first + i] = {RETORT_ERROR, outcome.message(), {}, {}};
    }
  }
  return OkStatus();
}

}  // namespace

Result<std::vector<Decision>> CallFilter(const FilterPlugin& filter, const SampleViews& views,
                                         const RewardChain& rewards, const RewardTable& table,
                                         const ChainCall& call) {
  std::vector<Decision> decisions(views.size());
  FilterArgs args(views, rewards, table);
  PluginCall plugin("filter " + filter.name, SinksOf(call));
  RETORT_RETURN_IF_ERROR(Observe(filter, views, args, plugin, call));
  RETORT_RETURN_IF_ERROR(JudgeAll(filter, views, args, plugin, call, decisions));
  return decisions;
}

}  // namespace retort::host
