// Rewards that break the rules of instances, of growth and of rewards. The score is the length of
// the completion.
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cfenv>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <thread>

#include "probe.h"

namespace probe {
namespace {

double shared_weight = 0;  // "instance.two": of whoever was created last

struct Reward : Instance {
  explicit Reward(const std::string& id) : Instance(id), created(n_created) {
    if (Is("instance.two")) shared_weight = 5;
    const bool is_small = Is("instance.accepted");
    table = {is_small ? 4U : static_cast<uint32_t>(sizeof(retort_reward_v1)), Flags(), 0, Score};
  }
  ~Reward() override {
    if (Is("instance.two")) shared_weight = 0;
  }
  uint32_t Flags() const {
    if (Is("reward.repeat")) return RETORT_REWARD_PURE;
    if (Is("reward.concurrent")) return RETORT_REWARD_CONCURRENT;
    if (Is("reward.batch") || Is("reward.order")) return RETORT_REWARD_GROUPWISE;
    return Is("reward.flags") ? 1U << 9 : 0;
  }
  const void* Table(std::string_view id) override {
    if (id == RETORT_REWARD_INTERFACE) return &table;
    const bool answers = Is("reward.answers") || Is("reward.answers_equivalence");
    return answers && id == RETORT_ANSWER_INTERFACE ? &answer_table : nullptr;
  }
  static retort_status Score(retort_instance* self, const retort_call* call,
                             const retort_reward_args* args);
  static retort_status Classes(retort_instance* self, const retort_call* call,
                               const retort_sample* samples, uint64_t stride, uint64_t n,
                               int64_t* first) {
    if (n == 0 && Of(self).Is("reward.answers")) return Fail(call, RETORT_INTERNAL, "no sample");
    for (uint64_t i = 0; i < n; ++i) {
      uint64_t k = Of(self).Is("reward.answers") ? 0 : i;  // else nothing equals anything
      while (View(At(samples, stride, k).completion) != View(At(samples, stride, i).completion)) {
        ++k;
      }
      first[i] = static_cast<int64_t>(k);
    }
    return RETORT_OK;
  }
  int created;
  std::atomic<int> n_inside{0};
  retort_reward_v1 table;
  retort_answer_v1 answer_table{sizeof(retort_answer_v1), 0, Classes};
};

void OnSignal(int) {}

// What must not be done to the process.
void ChangeProcess(const Reward& self) {
  static bool done = false;  // once in a process, so that nothing adds up
  if (done) return;
  done = true;
  if (self.Is("instance.locale")) std::setlocale(LC_ALL, "C.UTF-8");
  if (self.Is("instance.folder") && chdir("/") != 0) std::abort();
  if (self.Is("instance.umask")) umask(0777);
  if (self.Is("instance.signals")) signal(SIGUSR1, OnSignal);
  if (self.Is("instance.float_mode")) std::fesetround(FE_DOWNWARD);
  if (self.Is("instance.environment")) setenv("PROBE", "was here", 1);
  if (self.Is("instance.descriptors")) dup2(STDERR_FILENO, STDIN_FILENO);
  if (self.Is("instance.limits")) setpriority(PRIO_PROCESS, 0, 19);
  if (self.Is("instance.output")) std::puts("scored");
  if (self.Is("instance.children") && fork() == 0) {
    for (;;) pause();
  }
  if (self.Is("instance.threads")) {
    std::thread([] {
      for (;;) pause();
    }).detach();
  }
}

// The status that the call gives for what breaks a rule by refusing, or OK.
retort_status Refusal(const Reward& self, const retort_call* call, const retort_reward_args* args) {
  const auto refuse = [&](bool when, retort_status status = RETORT_INTERNAL) {
    return when ? Fail(call, status, "this breaks " + self.deed) : RETORT_OK;
  };
  if (self.Is("instance.use")) return refuse(true);
  if (self.Is("growth.call")) return refuse(call->struct_size != sizeof(retort_call));
  if (self.Is("growth.args")) return refuse(args->struct_size != sizeof(retort_reward_args));
  if (self.Is("growth.hints")) return refuse(call->flags != 0);
  if (self.Is("reward.empty")) return refuse(args->n == 0);
  if (self.Is("reward.cancel")) return refuse(Cancelled(call));
  if (self.Is("reward.no_scratch")) {
    return refuse(call->scratch(call->ctx, 64, 8) == nullptr, RETORT_INTERNAL);
  }
  for (uint64_t i = 0; i < args->n; ++i) {
    const std::string_view odd = OddityOf(At(args->samples, args->sample_stride, i));
    if (!odd.empty() && self.deed == "reward." + std::string(odd)) return refuse(true);
  }
  return RETORT_OK;
}

double ScoreOf(const Reward& self, const retort_call* call, const retort_reward_args* args,
               uint64_t i) {
  const retort_sample& first = args->samples[0];
  const uint64_t stride = self.Is("growth.stride") ? sizeof(retort_sample) : args->sample_stride;
  const retort_sample& sample = At(args->samples, stride, i);
  if (self.Is("instance.two")) return shared_weight;
  if (self.Is("reward.split")) return static_cast<double>(args->n);
  if (self.Is("reward.order")) return first.uid <= sample.uid ? 1 : 0;
  if (self.Is("reward.repeat")) return static_cast<double>(call->step);
  if (self.Is("reward.same_key")) return self.created;
  if (self.Is("reward.other_thread")) return is_creator ? 1 : 0;
  if (self.Is("reward.concurrent")) return self.n_inside.load();
  return static_cast<double>(sample.completion.len);
}

retort_status Reward::Score(retort_instance* raw, const retort_call* call,
                            const retort_reward_args* args) {
  Reward& self = static_cast<Reward&>(Of(raw));
  if (self.Is("growth.first_size")) {
    const volatile char* end = reinterpret_cast<const char*>(args) + args->struct_size;
    static_cast<void>(*end);  // one byte beyond
  }
  if (self.Is("instance.use_many")) Leak(5000);
  ChangeProcess(self);
  UseOldCall(self, call);
  const retort_status refusal = Refusal(self, call, args);
  if (refusal != RETORT_OK) return refusal;
  ++self.n_inside;
  if (self.Is("reward.concurrent")) usleep(2000);
  for (uint64_t i = 0; i < args->n; ++i) {
    args->status[i] = RETORT_SCORE_OK;
    args->score[i] = ScoreOf(self, call, args, i);
  }
  if (self.Is("reward.batch") && args->n == 1) args->status[0] = 9;
  --self.n_inside;
  return RETORT_OK;
}

}  // namespace

Instance* NewReward(const std::string& id) { return new Reward(id); }

}  // namespace probe
