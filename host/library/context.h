// What stands behind a retort_context and is shared with its handles: the session, the last
// message, where log lines go, whether a call runs. Handles keep it alive, so any order of
// destroying is fine.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "core/base/status.h"
#include "core/engine/engine.h"
#include "host/chain/chain_call.h"
#include "host/library/guard.h"
#include "host/session/session.h"
#include "retort/host.h"

namespace retort::host {

struct ContextState {
  ContextState(SessionOptions options, const retort_context_options& given);

  void Log(int32_t level, std::string_view text);
  // For a plugin's calls: cancel, threads, the log.
  ChainCall NewChainCall();

  Session session;
  engine::Cancel cancel{0};
  std::string message;  // of the last call; "" after a success
  std::atomic<bool> busy{false}, closed{false};

 private:
  std::mutex log_mutex_;
  const int32_t log_level_;
  void* const log_ctx_;
  void (*const log_)(void*, int32_t, retort_str);
};

// Claims the context for one call on one thread; the caller's floating-point environment is back
// as it was at the end, whatever a plugin did to it.
class ContextCall {
 public:
  explicit ContextCall(std::shared_ptr<ContextState> state);
  ~ContextCall();
  ContextCall(const ContextCall&) = delete;
  ContextCall& operator=(const ContextCall&) = delete;

  bool claimed() const { return claimed_; }
  // Keeps the text for retort_context_error.
  retort_status End(const Status& status);

 private:
  struct FloatingPoint;
  std::shared_ptr<ContextState> state_;
  std::unique_ptr<FloatingPoint> before_;
  bool claimed_ = false;
};

// One API call: fn() returns Status; exceptions become one.
template <class Fn>
retort_status RunCall(const std::shared_ptr<ContextState>& state, Fn&& fn) noexcept {
  retort_status out = RETORT_INTERNAL;
  const Status outer = Guard([&]() -> Status {
    ContextCall call(state);
    out = RETORT_FAILED_PRECONDITION;
    if (call.claimed()) out = call.End(Guard(std::forward<Fn>(fn)));
    return OkStatus();
  });
  return outer.ok() ? out : static_cast<retort_status>(outer.code());
}

// The same for a call that polls `cancel`: a wish to stop is forgotten when it ends.
template <class Fn>
retort_status RunStoppableCall(const std::shared_ptr<ContextState>& state, Fn&& fn) noexcept {
  return RunCall(state, [&]() -> Status {
    const Status status = Guard(std::forward<Fn>(fn));
    const bool asked = state->cancel.exchange(0) != 0;
    // Input that broke off because somebody asked to stop is no failure of the input.
    return asked && status.code() == Code::kUnavailable ? Cancelled("interrupted") : status;
  });
}

}  // namespace retort::host

struct retort_context {
  std::shared_ptr<retort::host::ContextState> state;
};
