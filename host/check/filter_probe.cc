// SPDX-License-Identifier: Apache-2.0
#include "host/check/filter_probe.h"

#include <pthread.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "core/base/plugin_call.h"
#include "host/check/texts.h"

namespace retort::host::check {
namespace {

constexpr size_t kRewards = 2;

// What the host knows of the samples from the entry's rewards: a function of each sample's uid, so
// that it is the same in every order and split.
struct RewardResults {
  explicit RewardResults(const std::vector<CheckGroup>& groups) {
    for (const CheckGroup& group : groups) AddGroup(group);
  }

  void AddGroup(const CheckGroup& group) {
    std::vector<int64_t> classes;  // of this group: -1, or the uid's class
    for (const CheckSample& sample : group) {
      const RngKey key = Derive(RngKey{0, 17}, sample.uid);
      Rng rng(key);
      classes.push_back(static_cast<int64_t>(rng.Below(4)) - 1);
      int64_t first = -1;
      for (size_t k = 0; k < classes.size() && first < 0 && classes.back() >= 0; ++k) {
        if (classes[k] == classes.back()) first = static_cast<int64_t>(k);
      }
      first_equal.push_back(first);
      for (size_t r = 0; r < kRewards; ++r) {
        const bool measured = rng.Below(8) != 0;
        scores.push_back(measured ? static_cast<double>(rng.Below(5)) / 4
                                  : std::numeric_limits<double>::quiet_NaN());
        status.push_back(measured ? RETORT_SCORE_OK : RETORT_SCORE_NOT_APPLICABLE);
        info.push_back(rng.Below(2) == 0 ? retort_str{nullptr, 0} : ToStr(R"({"hit":true})"));
      }
    }
  }
  std::vector<double> scores;
  std::vector<uint8_t> status;
  std::vector<int64_t> first_equal;
  std::vector<retort_str> info;
};

// What the decide callback gets.
struct DecisionTaker {
  pthread_t thread = pthread_self();
  bool judging = false;
  std::vector<FilterDecision>* decisions = nullptr;
  std::string problem;

  static void Take(void* ctx, uint64_t sample, const retort_decision* d) {
    auto& self = *static_cast<DecisionTaker*>(ctx);
    const std::string why = self.Wrong(sample, d);
    if (!why.empty()) {
      self.problem = "decision for sample " + std::to_string(sample) + ": " + why;
      return;
    }
    const auto text = [](retort_str s) {
      return s.ptr == nullptr ? std::optional<std::string>() : std::string(ToView(s));
    };
    (*self.decisions)[sample] = {d->action, d->reason_code, std::string(ToView(d->reason)),
                                 text(d->completion), text(d->record)};
  }

  std::string Wrong(uint64_t sample, const retort_decision* d) const {
    if (!judging) return "decide was called from observe; only judge may decide";
    if (pthread_equal(thread, pthread_self()) == 0) return "it came from another thread";
    if (sample >= decisions->size()) {
      return "the call has only " + std::to_string(decisions->size()) + " samples";
    }
    if (d == nullptr) return "the decision is NULL";
    if (d->struct_size < sizeof(retort_decision)) {
      return "its struct_size is " + std::to_string(d->struct_size) + ", expected at least " +
             std::to_string(sizeof(retort_decision));
    }
    if ((d->flags & 0xFFFFU) != 0) return "its flags are " + std::to_string(d->flags);
    if (d->action > RETORT_ERROR) return "its action is " + std::to_string(d->action);
    if (d->action != RETORT_KEEP && d->reason.len == 0) {
      return "action " + std::to_string(d->action) + " has no reason; only KEEP needs none";
    }
    if (std::isinf(d->quality)) return "its quality is not finite (NaN: not given)";
    if (!IsUtf8(ToView(d->reason))) return "its reason is not UTF-8";
    if (d->action == RETORT_REWRITE && d->record.ptr != nullptr) {
      const std::string why = NotAnObject(ToView(d->record));
      if (!why.empty()) return "its new record " + Quoted(ToView(d->record)) + ": " + why;
    }
    return "";
  }
};

}  // namespace

FilterProbe::FilterProbe(const Subject& subject, const CallKind& kind, RawInstance instance,
                         const retort_filter_v1* table)
    : key_(RootKey(subject.seed, "check")),
      kind_(kind),
      instance_(std::move(instance)),
      table_(table) {}

Result<FilterProbe> FilterProbe::Make(const Subject& subject, const CallKind& kind) {
  RETORT_ASSIGN_OR_RETURN(RawInstance instance, RawInstance::Create(subject, kind.growth));
  RETORT_ASSIGN_OR_RETURN(const auto* table,
                          instance.Table<retort_filter_v1>(RETORT_FILTER_INTERFACE));
  return FilterProbe(subject, kind, std::move(instance), table);
}

Result<FilterRun> FilterProbe::Call(Function function, const std::vector<CheckGroup>& groups,
                                    RawCall& call, uint32_t pass,
                                    const FilterCallShape& shape) const {
  const RawSamples samples(groups, (table_->flags & RETORT_FILTER_NEEDS_IDS) != 0,
                           shape.stride_extra);
  const StridedArray<retort_group> group_array(samples.groups(), shape.stride_extra);
  const RewardResults results(groups);
  static constexpr const char* kNames[kRewards] = {"first", "second"};
  static constexpr double kWeights[kRewards] = {1.0, 0.5};
  const bool judging = function == table_->judge;
  FilterRun run;
  run.decisions.resize(samples.n());
  DecisionTaker taker;
  taker.judging = judging;
  taker.decisions = &run.decisions;
  const bool any = samples.n() > 0;
  GuardedStruct<retort_filter_args> args({.struct_size = sizeof(retort_filter_args),
                                          .sample_stride = samples.stride(),
                                          .group_stride = group_array.stride(),
                                          .pass = pass,
                                          .samples = any ? samples.samples() : nullptr,
                                          .n_samples = samples.n(),
                                          .groups = groups.empty() ? nullptr : group_array.get(),
                                          .n_groups = groups.size(),
                                          .reward_names = kNames,
                                          .n_rewards = kRewards,
                                          .reward_weights = kWeights,
                                          .scores = any ? results.scores.data() : nullptr,
                                          .score_status = any ? results.status.data() : nullptr,
                                          .first_equal = any ? results.first_equal.data() : nullptr,
                                          .info = any ? results.info.data() : nullptr,
                                          .out_ctx = &taker,
                                          .decide = DecisionTaker::Take},
                                         shape.growth);
  call.raw().key = {key_.hi, key_.lo};
  const char* const name = judging ? "judge" : "observe";
  run.returned = function(instance_.get(), call.Begin(), args.get());
  RETORT_RETURN_IF_ERROR(shape.may_fail ? call.EndFailed(run.returned, name)
                                        : call.End(run.returned, name));
  if (!args.untouched() || !samples.untouched() || !group_array.untouched()) {
    return InvalidArgument(std::string(name) + " wrote into its argument struct, a sample or a " +
                           "group; they are inputs");
  }
  if (!taker.problem.empty()) return InvalidArgument(taker.problem);
  return run;
}

Status FilterProbe::Observe(const std::vector<CheckGroup>& groups, uint32_t pass,
                            const FilterCallShape& shape) const {
  RawCall call(kind_.growth, kind_.flags);
  return Call(table_->observe, groups, call, pass, shape).status();
}

Status FilterProbe::EndPass(uint32_t pass) const {
  RawCall call(kind_.growth, kind_.flags);
  call.raw().key = {key_.hi, key_.lo};
  return call.End(table_->end_pass(instance_.get(), call.Begin(), pass), "end_pass");
}

Result<FilterRun> FilterProbe::Judge(const std::vector<CheckGroup>& groups, RawCall& call,
                                     const FilterCallShape& shape) const {
  return Call(table_->judge, groups, call, n_passes(), shape);
}

Result<FilterRun> FilterProbe::Judge(const std::vector<CheckGroup>& groups,
                                     const FilterCallShape& shape) const {
  RawCall call(kind_.growth, kind_.flags);
  return Judge(groups, call, shape);
}

Result<FilterRun> FilterProbe::Everything(const std::vector<CheckGroup>& groups,
                                          const FilterCallShape& shape) const {
  for (uint32_t pass = 0; pass < n_passes(); ++pass) {
    RETORT_RETURN_IF_ERROR(Observe(groups, pass, shape));
    RETORT_RETURN_IF_ERROR(EndPass(pass));
  }
  return Judge(groups, shape);
}

Result<FilterRun> FilterProbe::Finish(const std::vector<CheckGroup>& groups) const {
  for (uint32_t pass = 0; pass < n_passes(); ++pass) {
    if (pass > 0) RETORT_RETURN_IF_ERROR(Observe(groups, pass));
    RETORT_RETURN_IF_ERROR(EndPass(pass));
  }
  return Judge(groups);
}

Result<std::string> FilterProbe::Save(uint64_t max_step) const {
  ByteSink sink(max_step);
  const retort_sink raw = sink.get();
  RawCall call(kind_.growth, kind_.flags);
  RETORT_RETURN_IF_ERROR(call.End(table_->save(instance_.get(), call.Begin(), &raw), "save"));
  return sink.bytes();
}

Status FilterProbe::Merge(const std::string& state, uint64_t max_step) const {
  ByteReader reader(state, max_step);
  const retort_reader raw = reader.get();
  RawCall call(kind_.growth, kind_.flags);
  return call.End(table_->merge(instance_.get(), call.Begin(), &raw), "merge");
}

Result<retort_status> FilterProbe::TryMerge(const std::string& state) const {
  ByteReader reader(state);
  const retort_reader raw = reader.get();
  RawCall call(kind_.growth, kind_.flags);
  const retort_status status = table_->merge(instance_.get(), call.Begin(), &raw);
  RETORT_RETURN_IF_ERROR(call.EndFailed(status, "merge"));
  return status;
}

std::string Difference(const FilterRun& a, const FilterRun& b, const std::vector<size_t>& from) {
  static constexpr const char* kActions[] = {"KEEP", "DROP", "REWRITE", "ERROR"};
  const auto text = [](const FilterDecision& d) {
    return std::string(kActions[d.action]) + (d.reason.empty() ? "" : " " + Quoted(d.reason));
  };
  for (size_t i = 0; i < from.size(); ++i) {
    const FilterDecision &x = a.decisions[from[i]], &y = b.decisions[i];
    if (x == y) continue;
    return "sample " + std::to_string(from[i]) + " was decided " + text(x) + ", then " + text(y);
  }
  return "";
}

std::string Difference(const FilterRun& a, const FilterRun& b) {
  std::vector<size_t> same(a.decisions.size());
  std::iota(same.begin(), same.end(), size_t{0});
  return Difference(a, b, same);
}

}  // namespace retort::host::check
