// Generators in a worker. What is under way dies with the worker: each request that had not ended
// gets an ERROR event with UNAVAILABLE, and the host decides about another try, as with any
// teacher that went away.
// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <vector>

#include "core/base/clock.h"
#include "host/worker/proxy.h"

namespace retort::host {
namespace {

class GeneratorProxy : public Proxy {
 public:
  explicit GeneratorProxy(std::unique_ptr<Supervisor> given) : Proxy(std::move(given)) {
    table_ = {.struct_size = sizeof table_,
              .flags = supervisor().facts().flags,
              .submit = Submit,
              .poll = Poll,
              .cancel = Cancel};
    supervisor().restore = [this](const retort_call*) {
      LoseAll();
      return OkStatus();
    };
  }
  const void* Interface(std::string_view id) const override {
    return id == RETORT_GENERATOR_INTERFACE ? &table_ : nullptr;
  }

 private:
  using OnEvent = void (*)(void* ctx, const retort_event* event);

  static retort_status Submit(retort_instance* handle, const retort_call* call,
                              const retort_request* requests, uint64_t stride, uint64_t n,
                              uint64_t* n_taken) {
    return AtEdge(call, [&] {
      GeneratorProxy& self = As<GeneratorProxy>(handle);
      Answer answer = self.AskTwice(FrameType::kSubmit, call, [&](FrameWriter& out) {
        PutRequests(requests, stride, n, out);
      });
      if (!answer.good()) return Report(call, answer);
      FrameReader in = answer.fields;
      const uint64_t taken = in.Uint();
      const auto none = [](const Item&) { return false; };
      if (!in.ok() || taken > n || !HandOn(in, call, none, none)) {
        return Report(call, self.supervisor().Violation("a reply to submit that is none"));
      }
      const char* base = reinterpret_cast<const char*>(requests);
      for (uint64_t i = 0; i < taken; ++i) {
        const auto& request = *reinterpret_cast<const retort_request*>(base + i * stride);
        self.open_[request.uid] = request.n_samples;
      }
      *n_taken = taken;
      return RETORT_OK;
    });
  }

  // The plugin has until the caller's deadline to find an event, and timeout_ms more to return.
  static retort_status Poll(retort_instance* handle, const retort_call* call, void* ctx,
                            OnEvent on) {
    return AtEdge(call, [&] {
      GeneratorProxy& self = As<GeneratorProxy>(handle);
      if (!self.lost_.empty()) return self.TellLost(ctx, on);
      const int64_t timeout = self.supervisor().timeout_ns();
      const int64_t wait_until =
          call->deadline_ns != 0 ? call->deadline_ns : RealClock().MonotonicNs() + timeout;
      Answer answer = self.supervisor().Call(
          FrameType::kPoll, call, [](FrameWriter&) {},
          {.plugin_deadline_ns = wait_until,
           .cancel_at_ns = std::max(wait_until, RealClock().MonotonicNs()) + timeout});
      const auto legal = [](const Item& item) { return item.kind == ItemKind::kEvent; };
      const auto each = [&](const Item& item) {
        self.Count(item.event);
        self.supervisor().NoteGood();
        on(ctx, &item.event);
      };
      if (answer.good() && !HandOn(answer.fields, call, legal, each)) {
        answer = self.supervisor().Violation("events that are none");
      }
      self.GiveUpIfExhausted(answer);
      if (answer.kind == Answer::kFailed || answer.kind == Answer::kTimedOut) {
        self.why_ = answer.text;
        self.LoseAll();
      }
      if (!self.lost_.empty()) return self.TellLost(ctx, on);
      if (answer.kind == Answer::kReply && answer.status != RETORT_OK &&
          answer.status != RETORT_CANCELLED) {
        self.open_.clear();  // a failing poll ends all requests
      }
      return Report(call, answer);
    });
  }

  static retort_status Cancel(retort_instance* handle, const retort_call* call, uint64_t uid) {
    return AtEdge(call, [&] {
      GeneratorProxy& self = As<GeneratorProxy>(handle);
      std::erase(self.lost_, uid);
      if (self.open_.erase(uid) == 0) return RETORT_OK;
      const Answer answer = self.supervisor().Call(FrameType::kCancelRequest, call,
                                                   [&](FrameWriter& out) { out.Uint(uid); });
      if (answer.kind == Answer::kReply) return Report(call, answer);
      self.GiveUpIfExhausted(answer);
      self.why_ = answer.text;
      self.LoseAll();
      return RETORT_OK;  // nothing more will come of it
    });
  }

  void Count(const retort_event& event) {
    const auto found = open_.find(event.uid);
    if (found == open_.end() || event.kind == RETORT_EVENT_DELTA) return;
    const bool last = event.kind == RETORT_EVENT_ERROR || --found->second == 0;
    if (last) open_.erase(found);
  }

  void LoseAll() {
    for (const auto& [uid, left] : open_) lost_.push_back(uid);
    open_.clear();
  }

  retort_status TellLost(void* ctx, OnEvent on) {
    const std::string text =
        why_.empty() ? "the generator's worker ended before it answered" : why_;
    const std::vector<uint64_t> lost = std::move(lost_);
    lost_.clear();
    for (const uint64_t uid : lost) {
      retort_event event{};
      event.struct_size = sizeof event;
      event.kind = RETORT_EVENT_ERROR;
      event.uid = uid;
      event.status = RETORT_UNAVAILABLE;
      event.text = ToStr(text);
      on(ctx, &event);
    }
    return RETORT_OK;
  }

  retort_generator_v1 table_{};
  std::map<uint64_t, uint32_t> open_;  // requests under way: samples that are not done
  std::vector<uint64_t> lost_;         // ended with a worker; not told yet
  std::string why_;
};

}  // namespace

std::unique_ptr<Proxy> MakeGeneratorProxy(std::unique_ptr<Supervisor> supervisor) {
  return std::make_unique<GeneratorProxy>(std::move(supervisor));
}

}  // namespace retort::host
