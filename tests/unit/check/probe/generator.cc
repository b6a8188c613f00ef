// Generators that break the rules of generators. A good one answers one request per poll from a
// queue of eight.
// SPDX-License-Identifier: Apache-2.0
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <deque>

#include "probe.h"

namespace probe {
namespace {

constexpr size_t kQueue = 8;

int64_t Now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

struct Request {
  uint64_t uid = 0;
  uint32_t n_samples = 0;
  std::string messages;
  retort_str borrowed{};  // "generator.copies": not copied
};

struct Generator : Instance {
  explicit Generator(const std::string& id) : Instance(id), created(n_created) {}
  ~Generator() override {
    if (Is("generator.destroy_busy") && !queue.empty()) usleep(2'600'000);
  }
  const void* Table(std::string_view id) override {
    static const retort_generator_v1 kTable = {sizeof(retort_generator_v1), 0, Submit, Poll,
                                               Cancel};
    return id == RETORT_GENERATOR_INTERFACE ? &kTable : nullptr;
  }
  static Generator& Self(retort_instance* raw) { return static_cast<Generator&>(Of(raw)); }

  static retort_status Submit(retort_instance* raw, const retort_call* call,
                              const retort_request* requests, uint64_t stride, uint64_t n,
                              uint64_t* n_taken) {
    Generator& self = Self(raw);
    if (n == 0 && self.Is("generator.empty")) return Fail(call, RETORT_INTERNAL, "nothing given");
    const bool full = self.Is("generator.queue") && self.n_submitted >= 50;
    uint64_t i = 0;
    for (; i < n && self.queue.size() < kQueue && !full; ++i, ++self.n_submitted) {
      const retort_request& r = At(requests, stride, i);
      self.queue.push_back(
          {r.uid, r.n_samples, std::string(View(r.messages_json)), r.messages_json});
    }
    *n_taken = i;
    return RETORT_OK;
  }

  static retort_status Poll(retort_instance* raw, const retort_call* call, void* ctx,
                            void (*on)(void* ctx, const retort_event*)) {
    Generator& self = Self(raw);
    if (self.queue.empty()) return self.Wait(call);
    const Request request = self.queue.front();
    self.queue.pop_front();
    for (uint32_t s = 0; s < request.n_samples; ++s) self.Answer(request, s, ctx, on);
    return RETORT_OK;
  }
  retort_status Wait(const retort_call* call) const {
    if (Is("generator.deadline")) usleep(2'600'000);
    while (Now() < call->deadline_ns) {
      if (Cancelled(call) && !Is("generator.cancel_flag")) return RETORT_CANCELLED;
      usleep(2000);
    }
    return RETORT_OK;
  }

  void Answer(const Request& request, uint32_t sample, void* ctx,
              void (*on)(void* ctx, const retort_event*)) const {
    std::string text =
        Is("generator.copies") ? std::string(View(request.borrowed)) : request.messages;
    text += " sample " + std::to_string(sample);
    if (Is("generator.same_key")) text += " of instance " + std::to_string(created);
    retort_event event{};
    event.struct_size = sizeof(event);
    event.uid = request.uid;
    event.sample = sample;
    event.kind = RETORT_EVENT_DELTA;
    const size_t half = text.rfind(' ');
    for (const std::string_view part :
         {std::string_view(text).substr(0, half), std::string_view(text).substr(half)}) {
      event.text = {part.data(), part.size()};
      on(ctx, &event);
    }
    event.kind = RETORT_EVENT_DONE;
    if (Is("generator.deltas")) text += ".";
    event.text = {text.data(), text.size()};
    on(ctx, &event);
    if (Is("generator.done") && n_submitted == 6) on(ctx, &event);
  }

  static retort_status Cancel(retort_instance* raw, const retort_call*, uint64_t uid) {
    Generator& self = Self(raw);
    const auto at = std::find_if(self.queue.begin(), self.queue.end(),
                                 [&](const Request& r) { return r.uid == uid; });
    if (at == self.queue.end()) {
      return self.Is("generator.cancel_unknown") ? RETORT_INTERNAL : RETORT_OK;
    }
    if (!self.Is("generator.cancel")) self.queue.erase(at);
    return RETORT_OK;
  }

  int created;
  uint64_t n_submitted = 0;
  std::deque<Request> queue;
};

}  // namespace

Instance* NewGenerator(const std::string& id) { return new Generator(id); }

}  // namespace probe
