// One isolated instance: the worker that holds it, started again when it fails, and given up when
// it fails again and again. Whoever calls decides what a failure means for its samples.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/base/status.h"
#include "host/worker/connection.h"
#include "host/worker/messages.h"
#include "host/worker/worker.h"

namespace retort::host {

// What came of one call.
struct Answer {
  enum Kind : uint8_t {
    kReply,      // the plugin's own: status, text, and `fields` behind them
    kFailed,     // the worker died or broke the protocol
    kTimedOut,   // no answer in time, or one that says so
    kCancelled,  // the caller wanted to stop and the plugin did not come back in time
    kTooLarge,   // the call doesn't fit into a frame: nothing was sent
    kOut,        // the plugin was given up earlier; no worker was asked
  };
  Kind kind = kReply;
  retort_status status = RETORT_OK;
  std::string text;
  FrameReader fields{{}};  // valid until the next call

  bool good() const { return kind == kReply && status == RETORT_OK; }
};

class Supervisor {
 public:
  // Starts a worker and has it create the instance, once: whoever creates wants to know at once.
  static Result<std::unique_ptr<Supervisor>> Start(CreateRequest what, WorkerOptions options);
  ~Supervisor();  // has the plugin destroy its instance, if that takes no longer than a second

  const TableFacts& facts() const { return facts_; }
  const std::string& name() const { return name_; }  // "reward format"
  int64_t timeout_ns() const { return options_.timeout_ms * 1'000'000; }
  int max_restarts() const { return options_.max_restarts; }

  using Build = std::function<void(FrameWriter& out)>;
  // Asks the plugin. `plugin_deadline_ns` and `cancel_at_ns` 0: both are the end of timeout_ms, or
  // the call's deadline if it comes first.
  struct Timing {
    int64_t plugin_deadline_ns = 0, cancel_at_ns = 0;
  };
  Answer Call(FrameType type, const retort_call* call, const Build& build, Timing timing);
  Answer Call(FrameType type, const retort_call* call, const Build& build) {
    return Call(type, call, build, {});
  }
  // For a reply that breaks the rules: the worker is not to be trusted any more.
  Answer Violation(const std::string& what);

  // Brings a fresh instance to where the lost one was; asks by Call. A failure fails the call that
  // made the restart necessary.
  std::function<Status(const retort_call* call)> restore;

  // True: it failed max_restarts times in a row without a good answer between. Then either a last
  // look finds that some samples are fine, or it is given up.
  bool Exhausted() const { return failures_ >= options_.max_restarts; }
  void GiveUp();
  // A good answer that shows that the plugin works. Call notes it itself, but for calls that a
  // plugin may answer before it does anything (submit, poll without an event, save).
  void NoteGood() { failures_ = 0; }
  bool given_up() const { return !out_text_.empty(); }

 private:
  Supervisor(CreateRequest what, WorkerOptions options);
  Status Open();
  Status EnsureWorker(const retort_call* call);
  void BackOff(const retort_call* call) const;
  Answer Failed(Answer::Kind kind, std::string text);
  Answer Take(FrameType type, const Exchange& exchange, int64_t deadline_ns);
  void Log(const retort_call* call, int32_t level, const std::string& text) const;

  CreateRequest what_;
  WorkerOptions options_;
  std::string name_;
  TableFacts facts_;
  bool has_facts_ = false;
  std::unique_ptr<Connection> connection_;
  FrameWriter request_;
  int failures_ = 0;  // in a row
  bool restoring_ = false;
  std::string last_failure_, out_text_;
};

}  // namespace retort::host
