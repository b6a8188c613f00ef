// The host's stand-ins for instances in workers: the same C tables, one class per kind. Serial:
// a CONCURRENT flag is not passed on.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "core/base/plugin_call.h"
#include "host/library/guard.h"
#include "host/worker/supervisor.h"
#include "retort/abi/entry.h"

namespace retort::host {

// Its address is the retort_instance* that callers pass around.
class Proxy {
 public:
  explicit Proxy(std::unique_ptr<Supervisor> supervisor) : supervisor_(std::move(supervisor)) {}
  virtual ~Proxy() = default;
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;
  virtual const void* Interface(std::string_view id) const = 0;

  Supervisor& supervisor() { return *supervisor_; }
  retort_instance* handle() { return reinterpret_cast<retort_instance*>(this); }
  template <class Kind>
  static Kind& As(retort_instance* handle) {
    return static_cast<Kind&>(*reinterpret_cast<Proxy*>(handle));
  }

 protected:
  // Asks once more in a fresh worker if the first was lost to a crash, so that a worker that was
  // killed by somebody else costs nothing; gives the plugin up when it failed too often.
  Answer AskTwice(FrameType type, const retort_call* call, const Supervisor::Build& build) {
    Answer answer = supervisor_->Call(type, call, build);
    if (answer.kind == Answer::kFailed && !supervisor_->Exhausted()) {
      answer = supervisor_->Call(type, call, build);
    }
    GiveUpIfExhausted(answer);
    return answer;
  }
  void GiveUpIfExhausted(const Answer& answer) {
    const bool failed = answer.kind == Answer::kFailed || answer.kind == Answer::kTimedOut;
    if (failed && supervisor_->Exhausted()) supervisor_->GiveUp();
  }

 private:
  std::unique_ptr<Supervisor> supervisor_;
};

std::unique_ptr<Proxy> MakeRewardProxy(std::unique_ptr<Supervisor> supervisor);
std::unique_ptr<Proxy> MakeFilterProxy(std::unique_ptr<Supervisor> supervisor);
std::unique_ptr<Proxy> MakeSourceProxy(std::unique_ptr<Supervisor> supervisor);
std::unique_ptr<Proxy> MakeGeneratorProxy(std::unique_ptr<Supervisor> supervisor);

// The answer as the call's result, its text reported.
inline retort_status Report(const retort_call* call, const Answer& answer) {
  const retort_status status =
      answer.kind == Answer::kTimedOut ? RETORT_DEADLINE_EXCEEDED : answer.status;
  if (status != RETORT_OK && !answer.text.empty()) {
    call->error(call->ctx, status, ToStr(answer.text));
  }
  return status;
}

// Runs a table's function; nothing is thrown past the C edge.
template <class Fn>
retort_status AtEdge(const retort_call* call, Fn&& fn) noexcept {
  retort_status result = RETORT_OK;
  const Status thrown = Guard([&]() -> Status {
    result = std::forward<Fn>(fn)();
    return OkStatus();
  });
  if (thrown.ok()) return result;
  const auto status = static_cast<retort_status>(thrown.code());
  call->error(call->ctx, status, ToStr(thrown.message()));
  return status;
}

// Hands metrics on; `each` gets every other item and says whether it is a legal one. False: the
// reply breaks the rules. Nothing of a broken reply is handed on.
template <class Check, class Each>
bool HandOn(const FrameReader& fields, const retort_call* call, Check&& legal, Each&& each) {
  for (const bool deliver : {false, true}) {
    FrameReader in = fields;
    const uint64_t n = in.Count(kMinItemBytes);
    for (uint64_t i = 0; i < n && in.ok(); ++i) {
      const Item item = TakeItem(in);
      if (!in.ok()) return false;
      if (item.kind == ItemKind::kMetric) {
        if (deliver) call->metric(call->ctx, item.text, item.sum, item.count);
      } else if (!deliver) {
        if (!legal(item)) return false;
      } else {
        each(item);
      }
    }
    if (!in.AtEnd()) return false;
  }
  return true;
}

// All bytes of a reader or into a sink. False: the other side failed (and has said so).
bool ReadAll(const retort_reader& reader, uint64_t max_bytes, std::string* out);
bool WriteAll(const retort_sink& sink, std::string_view bytes);

}  // namespace retort::host
