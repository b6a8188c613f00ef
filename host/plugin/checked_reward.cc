// Rewards: a score that says ok is finite, statuses are in range, info comes for the call's own
// samples, answer classes are an equivalence.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "host/plugin/checked_call.h"

namespace retort::host {
namespace {

// Between the plugin's info calls and the caller's.
struct InfoRelay {
  const retort_reward_args* args;
  bool out_of_range = false;

  static void OnInfo(void* ctx, uint64_t index, retort_str json) {
    InfoRelay& self = *static_cast<InfoRelay*>(ctx);
    if (index >= self.args->n) {
      self.out_of_range = true;
    } else if (self.args->info != nullptr) {
      self.args->info(self.args->info_ctx, index, json);
    }
  }
};

void Repair(const retort_reward_args& args, uint64_t i, const char* why) {
  args.score[i] = std::numeric_limits<double>::quiet_NaN();
  args.status[i] = RETORT_SCORE_ERROR;
  if (args.info == nullptr) return;
  const std::string json = std::string("{\"error\":\"") + why + "\"}";
  args.info(args.info_ctx, i, ToStr(json));
}

// A failure of one sample is data: it becomes that sample's error.
void CheckScores(const retort_reward_args& args) {
  for (uint64_t i = 0; i < args.n; ++i) {
    if (args.status[i] > RETORT_SCORE_TIMEOUT) {
      Repair(args, i, "the reward gave a status that does not exist");
    } else if (args.status[i] == RETORT_SCORE_OK && !std::isfinite(args.score[i])) {
      Repair(args, i, "the reward gave a score that is not finite");
    } else if (args.status[i] != RETORT_SCORE_OK) {
      args.score[i] = std::numeric_limits<double>::quiet_NaN();
    }
  }
}

retort_status Score(retort_instance* handle, const retort_call* call,
                    const retort_reward_args* args) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  InfoRelay relay{.args = args};
  retort_reward_args inner = *args;
  inner.struct_size = sizeof(inner);
  inner.info_ctx = &relay;
  inner.info = InfoRelay::OnInfo;
  const bool concurrent = (self.in.reward->flags & RETORT_REWARD_CONCURRENT) != 0;
  const retort_status status = RunGuarded(
      self, call, concurrent, [&] { return self.in.reward->score(self.inner, call, &inner); });
  if (status != RETORT_OK) return status;
  if (relay.out_of_range) {
    return ReportBroken(call, Code::kInternal, "info was given for a sample outside the batch");
  }
  CheckScores(*args);
  return RETORT_OK;
}

retort_status Classes(retort_instance* handle, const retort_call* call,
                      const retort_sample* samples, uint64_t stride, uint64_t n,
                      int64_t* first_equal) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  for (uint64_t i = 0; i < n; ++i) first_equal[i] = -1;
  const retort_status status = RunGuarded(self, call, /*concurrent=*/false, [&] {
    return self.in.answer->classes(self.inner, call, samples, stride, n, first_equal);
  });
  if (status != RETORT_OK) return status;
  for (uint64_t i = 0; i < n; ++i) {
    const int64_t first = first_equal[i];
    const bool fits = first == -1 || (first >= 0 && first <= static_cast<int64_t>(i) &&
                                      first_equal[first] == first);
    if (!fits) {
      return ReportBroken(call, Code::kInternal,
                          "answer class " + std::to_string(first) + " of sample " +
                              std::to_string(i) + " is not the first sample of a class");
    }
  }
  return RETORT_OK;
}

}  // namespace

void WrapReward(CheckedInstance* self) {
  if (self->in.reward != nullptr) {
    self->out.reward = *self->in.reward;
    self->out.reward.struct_size = sizeof(retort_reward_v1);
    self->out.reward.score = Score;
  }
  if (self->in.answer != nullptr) {
    self->out.answer = *self->in.answer;
    self->out.answer.struct_size = sizeof(retort_answer_v1);
    self->out.answer.classes = Classes;
  }
}

}  // namespace retort::host
