// SPDX-License-Identifier: Apache-2.0
#include "host/check/reward_probe.h"

#include <pthread.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>

#include "core/base/plugin_call.h"
#include "host/check/texts.h"

namespace retort::host::check {
namespace {

// What the info callback gets.
struct InfoTaker {
  pthread_t thread = pthread_self();
  std::vector<std::string>* info = nullptr;
  std::string problem;

  static void Take(void* ctx, uint64_t index, retort_str json) {
    auto& self = *static_cast<InfoTaker*>(ctx);
    if (pthread_equal(self.thread, pthread_self()) == 0) {
      self.problem = "info was called from another thread than the call's";
    } else if (index >= self.info->size()) {
      self.problem = "info was called for sample " + std::to_string(index) + " of " +
                     std::to_string(self.info->size());
    } else if (const std::string why = NotAnObject(ToView(json)); !why.empty()) {
      self.problem =
          "info " + Quoted(ToView(json)) + " of sample " + std::to_string(index) + ": " + why;
    } else {
      (*self.info)[index] = ToView(json);
    }
  }
};

Status CheckVerdicts(const RewardRun& run) {
  for (size_t i = 0; i < run.status.size(); ++i) {
    const std::string sample = "sample " + std::to_string(i);
    if (run.status[i] > RETORT_SCORE_TIMEOUT) {
      return InvalidArgument(sample + " has status " + std::to_string(run.status[i]) +
                             "; 0 to 3 are known");
    }
    if (run.status[i] == RETORT_SCORE_OK && !std::isfinite(run.score[i])) {
      return InvalidArgument(sample + " has status OK and score " + std::to_string(run.score[i]) +
                             "; a score that is OK must be finite");
    }
  }
  return OkStatus();
}

size_t CountSamples(const std::vector<CheckGroup>& groups) {
  return std::accumulate(groups.begin(), groups.end(), size_t{0},
                         [](size_t n, const CheckGroup& g) { return n + g.size(); });
}

}  // namespace

RewardProbe::RewardProbe(const Subject& subject, const CallKind& kind, RawInstance instance,
                         const retort_reward_v1* table)
    : key_(RootKey(subject.seed, "check")),
      kind_(kind),
      instance_(std::move(instance)),
      table_(table),
      answers_(static_cast<const retort_answer_v1*>(instance_.Find(RETORT_ANSWER_INTERFACE))) {}

Result<RewardProbe> RewardProbe::Make(const Subject& subject, const CallKind& kind) {
  RETORT_ASSIGN_OR_RETURN(RawInstance instance, RawInstance::Create(subject, kind.growth));
  RETORT_ASSIGN_OR_RETURN(const auto* table,
                          instance.Table<retort_reward_v1>(RETORT_REWARD_INTERFACE));
  return RewardProbe(subject, kind, std::move(instance), table);
}

Result<RewardRun> RewardProbe::Score(const std::vector<CheckGroup>& groups, RawCall& call,
                                     const RewardCallShape& shape) const {
  const size_t n = CountSamples(groups);
  const RawSamples samples(groups, (table_->flags & RETORT_REWARD_NEEDS_IDS) != 0,
                           shape.stride_extra);
  ZonedArray<double> score(n, std::numeric_limits<double>::quiet_NaN());
  ZonedArray<uint8_t> status(n, RETORT_SCORE_ERROR);
  RewardRun run;
  run.info.resize(n);
  InfoTaker taker;
  taker.info = &run.info;
  GuardedStruct<retort_reward_args> args({.struct_size = sizeof(retort_reward_args),
                                          .sample_stride = samples.stride(),
                                          .samples = n == 0 ? nullptr : samples.samples(),
                                          .n = n,
                                          .score = n == 0 ? nullptr : score.data(),
                                          .status = n == 0 ? nullptr : status.data(),
                                          .info_ctx = &taker,
                                          .info = InfoTaker::Take},
                                         shape.growth);
  call.raw().key = {key_.hi, key_.lo};
  run.returned = table_->score(instance_.get(), call.Begin(), args.get());
  RETORT_RETURN_IF_ERROR(shape.may_fail ? call.EndFailed(run.returned, "score")
                                        : call.End(run.returned, "score"));
  for (const std::string& problem : {score.Problem("score"), status.Problem("status")}) {
    if (!problem.empty()) return InvalidArgument("score wrote to " + problem);
  }
  if (!args.untouched() || !samples.untouched()) {
    return InvalidArgument("score wrote into its argument struct or a sample; they are inputs");
  }
  if (!taker.problem.empty()) return InvalidArgument(taker.problem);
  run.score.assign(score.values().begin(), score.values().end());
  run.status.assign(status.values().begin(), status.values().end());
  if (run.returned == RETORT_OK) RETORT_RETURN_IF_ERROR(CheckVerdicts(run));
  return run;
}

Result<RewardRun> RewardProbe::Score(const std::vector<CheckGroup>& groups,
                                     const RewardCallShape& shape) const {
  RawCall call(kind_.growth, kind_.flags);
  return Score(groups, call, shape);
}

Result<std::vector<int64_t>> RewardProbe::Classes(const CheckGroup& group,
                                                  size_t stride_extra) const {
  const RawSamples samples({group}, (table_->flags & RETORT_REWARD_NEEDS_IDS) != 0, stride_extra);
  const auto n = static_cast<int64_t>(group.size());
  ZonedArray<int64_t> first(group.size(), std::numeric_limits<int64_t>::min());
  RawCall call(kind_.growth, kind_.flags);
  const retort_status status =
      answers_->classes(instance_.get(), call.Begin(), n == 0 ? nullptr : samples.samples(),
                        samples.stride(), samples.n(), first.data());
  RETORT_RETURN_IF_ERROR(call.End(status, "classes"));
  if (const std::string problem = first.Problem("first_equal"); !problem.empty()) {
    return InvalidArgument("classes wrote to " + problem);
  }
  std::vector<int64_t> out(first.values().begin(), first.values().end());
  for (int64_t i = 0; i < n; ++i) {
    const int64_t at = out[static_cast<size_t>(i)];
    if (at == -1 || (at >= 0 && at <= i && out[static_cast<size_t>(at)] == at)) continue;
    return InvalidArgument("first_equal[" + std::to_string(i) + "] is " + std::to_string(at) +
                           "; expected -1 or the first sample of its class");
  }
  return out;
}

std::string Difference(const RewardRun& a, const RewardRun& b, const std::vector<size_t>& from,
                       bool exact) {
  const auto near = [&](double x, double y) {
    if (exact) return std::memcmp(&x, &y, sizeof(x)) == 0;
    return std::abs(x - y) <= 1e-6 * std::max({1.0, std::abs(x), std::abs(y)});
  };
  const auto text = [](const RewardRun& run, size_t i) {
    return "status " + std::to_string(run.status[i]) + " score " + std::to_string(run.score[i]);
  };
  for (size_t i = 0; i < from.size(); ++i) {
    const size_t k = from[i];
    const bool both_ok = a.status[k] == RETORT_SCORE_OK && b.status[i] == RETORT_SCORE_OK;
    if (a.status[k] == b.status[i] && (!both_ok || near(a.score[k], b.score[i]))) continue;
    return "sample " + std::to_string(k) + " had " + text(a, k) + ", then " + text(b, i);
  }
  return "";
}

std::string Difference(const RewardRun& a, const RewardRun& b, bool exact) {
  std::vector<size_t> same(a.status.size());
  std::iota(same.begin(), same.end(), size_t{0});
  return Difference(a, b, same, exact);
}

}  // namespace retort::host::check
