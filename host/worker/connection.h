// One worker process and the conversation with it: a request goes out, frames come back, under a
// deadline, a cancel flag and the watch for its death. The conversation ends with its first
// failure: a worker that died, hung or spoke nonsense is killed and never spoken to again.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/base/status.h"
#include "host/worker/frame.h"
#include "host/worker/process.h"
#include "retort/abi/call.h"

namespace retort::host {

struct ExchangeLimits {
  int64_t cancel_at_ns = 0;         // CLOCK_MONOTONIC: then the cancel flag is set
  int64_t grace_ns = 0;             // and this much later the process is killed
  const int32_t* cancel = nullptr;  // the caller's flag, or NULL: it is passed on at once
};

enum class ExchangeEnd : uint8_t {
  kReply,      // of the plugin
  kDied,       // the process ended, or was killed because it broke the protocol
  kTimedOut,   // killed after deadline and grace
  kCancelled,  // killed: the caller's flag was set and the plugin did not come back in time
  kTooLarge,   // nothing was sent: the request is over the limit of a frame
};

struct Exchange {
  ExchangeEnd end = ExchangeEnd::kReply;
  bool late = false;        // kReply that came after the cancel flag was set for the deadline
  std::string text;         // what happened, unless kReply
  std::string_view fields;  // of the reply; valid until the next exchange
};

// Where a plugin's lines and progress go; all may be empty, none may throw.
struct ExchangeSinks {
  std::function<void(int32_t level, std::string_view message)> log;
  std::function<void(double fraction, std::string_view what)> progress;
};

class Connection {
 public:
  // Starts the program and waits until it is ready.
  static Result<std::unique_ptr<Connection>> Open(const std::string& program, int64_t timeout_ns);
  ~Connection();

  bool usable() const { return usable_; }
  // True: the process ended while nobody spoke to it.
  bool HasEnded() const { return process_.HasEnded(); }
  std::string HowItEnded() { return process_.HowItEnded(); }
  Exchange Ask(FrameType type, FrameWriter& request, const ExchangeLimits& limits,
               const ExchangeSinks& sinks);
  // The last of what it printed, for the message about its end; "" if it printed nothing.
  std::string LastOutput() const;

 private:
  struct Talk;  // one exchange under way
  explicit Connection(WorkerProcess process) : process_(std::move(process)) {}
  Exchange Run(Talk& talk);
  Exchange End(ExchangeEnd end, std::string text);
  bool Send(Talk& talk, Exchange* ended);
  bool Receive(Talk& talk, Exchange* ended);
  bool TakeFrames(Talk& talk, Exchange* ended);
  void Drain(const ExchangeSinks& sinks);
  void Print(std::string_view bytes, const ExchangeSinks& sinks);
  void Keep(std::string_view line);

  WorkerProcess process_;
  Inbox inbox_;
  bool usable_ = true;
  uint64_t number_ = 0;
  std::string line_, last_output_;  // printed: the unfinished line; the last lines
  uint64_t forwarded_ = 0;          // bytes of output that became log lines in this exchange
};

}  // namespace retort::host
