// Between a plugin and the callbacks of its caller. A callback that throws (out of memory, say)
// must not unwind through the plugin's frames, which may be C or noexcept: it is stopped here, and
// the call fails once the plugin has returned, whatever the plugin says. Also notes the first rule
// that the plugin broke while calling back. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "core/base/plugin_call.h"
#include "host/library/guard.h"
#include "retort/abi/call.h"

namespace retort::host {

// Tells the call's owner why it failed.
inline retort_status Report(const retort_call* call, Code code, std::string_view text) {
  const auto status = static_cast<retort_status>(code);
  call->error(call->ctx, status, ToStr(text));
  return status;
}

// One call. Lives on the stack of the wrapper's function; not movable, because the plugin's
// retort_call points to it.
class CallRelay {
 public:
  explicit CallRelay(const retort_call* outer) noexcept;
  CallRelay(const CallRelay&) = delete;
  CallRelay& operator=(const CallRelay&) = delete;

  const retort_call* call() const { return &inner_; }  // for the plugin
  const retort_call* outer() const { return outer_; }  // the caller's

  // The body of a callback that only the call's thread may use. fn may give a Status: what it
  // throws or gives becomes the call's failure. Once one has failed the later ones do nothing.
  // True: fn ran and was content.
  template <class Fn>
  bool Run(Fn&& fn) noexcept {
    if (std::this_thread::get_id() != thread_) {
      foreign_thread_.store(true, std::memory_order_relaxed);
      return false;
    }
    if (!first_.ok()) return false;
    first_ = Guard([&]() -> Status {
      if constexpr (std::is_same_v<decltype(fn()), Status>) {
        return fn();
      } else {
        fn();
        return OkStatus();
      }
    });
    return first_.ok();
  }
  // log may come from any thread; only that it failed is kept.
  template <class Fn>
  void RunFromAnyThread(Fn&& fn) noexcept {
    const Status status = Guard([&]() -> Status {
      fn();
      return OkStatus();
    });
    if (!status.ok()) log_failed_.store(true, std::memory_order_relaxed);
  }

  // The call's outcome: the plugin's status, unless a callback failed.
  retort_status Finish(retort_status status) const noexcept;

 private:
  static CallRelay& Of(void* ctx) { return *static_cast<CallRelay*>(ctx); }
  const retort_call* outer_;
  retort_call inner_;
  std::thread::id thread_;
  Status first_;
  std::atomic<bool> foreign_thread_{false}, log_failed_{false};
};

// A sink of the caller's, for the plugin.
class SinkRelay {
 public:
  SinkRelay(CallRelay* relay, const retort_sink* outer) : relay_(relay), outer_(outer) {}
  const retort_sink* sink() const { return &inner_; }

 private:
  static int64_t Write(void* ctx, const void* data, uint64_t n) noexcept;
  CallRelay* relay_;
  const retort_sink* outer_;
  retort_sink inner_{this, Write};
};

// A reader of the caller's, for the plugin.
class ReaderRelay {
 public:
  ReaderRelay(CallRelay* relay, const retort_reader* outer) : relay_(relay), outer_(outer) {}
  const retort_reader* reader() const { return &inner_; }

 private:
  static int64_t Read(void* ctx, void* data, uint64_t n) noexcept;
  CallRelay* relay_;
  const retort_reader* outer_;
  retort_reader inner_{this, Read};
};

}  // namespace retort::host
