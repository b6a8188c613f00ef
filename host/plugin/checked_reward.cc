// Rewards: a status that exists, a finite score where it says ok; answer classes are an
// equivalence. SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "host/plugin/checked_call.h"

namespace retort::host {
namespace {

// Between the plugin's info calls and the caller's.
struct InfoRelay {
  CallRelay* relay;
  const retort_reward_args* args;

  static void OnInfo(void* ctx, uint64_t index, retort_str json) {
    const InfoRelay& self = *static_cast<InfoRelay*>(ctx);
    self.relay->Run([&]() -> Status {
      if (index >= self.args->n) {
        return Internal("info was given for sample " + std::to_string(index) +
                        " outside the batch of " + std::to_string(self.args->n));
      }
      if (self.args->info != nullptr) self.args->info(self.args->info_ctx, index, json);
      return OkStatus();
    });
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
Status CheckScores(const retort_reward_args& args) {
  for (uint64_t i = 0; i < args.n; ++i) {
    if (args.status[i] > RETORT_SCORE_TIMEOUT) {
      Repair(args, i, "the reward gave a status that does not exist");
    } else if (args.status[i] == RETORT_SCORE_OK && !std::isfinite(args.score[i])) {
      Repair(args, i, "the reward gave a score that is not finite");
    } else if (args.status[i] != RETORT_SCORE_OK) {
      args.score[i] = std::numeric_limits<double>::quiet_NaN();
    }
  }
  return OkStatus();
}

retort_status Score(retort_instance* handle, const retort_call* call,
                    const retort_reward_args* args) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  CallRelay relay(call);
  InfoRelay info{.relay = &relay, .args = args};
  retort_reward_args inner = *args;
  inner.struct_size = sizeof(inner);
  inner.info_ctx = &info;
  inner.info = InfoRelay::OnInfo;
  const bool concurrent = (self.in.reward->flags & RETORT_REWARD_CONCURRENT) != 0;
  const retort_status status = RunGuarded(self, &relay, concurrent, [&] {
    return self.in.reward->score(self.inner, relay.call(), &inner);
  });
  if (status != RETORT_OK) return status;
  return Verify(relay, [&] { return CheckScores(*args); });
}

Status CheckClasses(const int64_t* first_equal, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) {
    const int64_t first = first_equal[i];
    const bool fits = first == -1 || (first >= 0 && first <= static_cast<int64_t>(i) &&
                                      first_equal[first] == first);
    if (fits) continue;
    return Internal("answer class " + std::to_string(first) + " of sample " + std::to_string(i) +
                    " is not the first sample of a class");
  }
  return OkStatus();
}

retort_status Classes(retort_instance* handle, const retort_call* call,
                      const retort_sample* samples, uint64_t stride, uint64_t n,
                      int64_t* first_equal) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  CallRelay relay(call);
  for (uint64_t i = 0; i < n; ++i) first_equal[i] = -1;
  const retort_status status = RunGuarded(self, &relay, /*concurrent=*/false, [&] {
    return self.in.answer->classes(self.inner, relay.call(), samples, stride, n, first_equal);
  });
  if (status != RETORT_OK) return status;
  return Verify(relay, [&] { return CheckClasses(first_equal, n); });
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
