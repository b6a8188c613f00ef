// SPDX-License-Identifier: Apache-2.0
#include "host/worker/supervisor.h"

#include <poll.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <utility>

#include "core/base/clock.h"
#include "core/base/plugin_call.h"
#include "host/library/guard.h"

namespace retort::host {
namespace {

// Waited before the first, second, ... restart in a row. Fixed: runs are to repeat.
constexpr int64_t kBackOffMs[] = {0, 10, 50, 250, 500};

constexpr int64_t kDestroyNs = 1'000'000'000;

int64_t NowNs() { return RealClock().MonotonicNs(); }

ExchangeSinks SinksOf(const retort_call* call, const std::string& name) {
  if (call == nullptr) return {};
  ExchangeSinks sinks;
  sinks.log = [call, &name](int32_t level, std::string_view text) {
    const std::string line = name + " " + std::string(text);
    call->log(call->ctx, level,
              ToStr(text.starts_with("prints: ") ? std::string_view(line) : text));
  };
  sinks.progress = [call](double fraction, std::string_view what) {
    call->progress(call->ctx, fraction, ToStr(what));
  };
  return sinks;
}

bool ShowsThatItWorks(FrameType type) {
  return type != FrameType::kSave && type != FrameType::kSubmit && type != FrameType::kPoll &&
         type != FrameType::kCancelRequest;
}

bool IsCancelled(const retort_call* call) {
  return call != nullptr && call->cancel != nullptr &&
         reinterpret_cast<const std::atomic<int32_t>*>(call->cancel)
                 ->load(std::memory_order_relaxed) != 0;
}

}  // namespace

Supervisor::Supervisor(CreateRequest what, WorkerOptions options)
    : what_(std::move(what)), options_(std::move(options)), name_(what_.kind + " " + what_.id) {}

Result<std::unique_ptr<Supervisor>> Supervisor::Start(CreateRequest what, WorkerOptions options) {
  std::unique_ptr<Supervisor> self(new Supervisor(std::move(what), std::move(options)));
  RETORT_RETURN_IF_ERROR(self->Open());
  return self;
}

Supervisor::~Supervisor() {
  if (connection_ == nullptr || !connection_->usable() || connection_->HasEnded()) return;
  const Status ignored = Guard([&]() -> Status {
    request_.Clear();
    (void)connection_->Ask(FrameType::kDestroy, request_, {.cancel_at_ns = NowNs() + kDestroyNs},
                           {});
    return OkStatus();
  });
  (void)ignored.ok();  // nobody is left to tell
}

// A fresh worker with a fresh instance.
Status Supervisor::Open() {
  connection_.reset();
  const int64_t start_ns = options_.start_ms * 1'000'000;
  RETORT_ASSIGN_OR_RETURN(connection_, Connection::Open(options_.program, start_ns));
  request_.Clear();
  PutCreate(what_, request_);
  const ExchangeLimits limits{.cancel_at_ns = NowNs() + start_ns,
                              .grace_ns = options_.grace_ms * 1'000'000};
  const Exchange exchange = connection_->Ask(FrameType::kCreate, request_, limits, {});
  if (exchange.end != ExchangeEnd::kReply) {
    const std::string how =
        exchange.end == ExchangeEnd::kTimedOut
            ? "did not finish within " + std::to_string(options_.start_ms) + " ms"
            : exchange.text;
    const Status status = Unavailable(name_ + " (" + what_.path + "): its worker " + how +
                                      " while it created the plugin" + connection_->LastOutput());
    connection_.reset();
    return status;
  }
  FrameReader in(exchange.fields);
  const int32_t code = in.Int32();
  const std::string text(in.Text());
  if (in.ok() && code != RETORT_OK) {
    connection_.reset();
    return {ToCode(code), text};
  }
  const TableFacts facts = TakeFacts(in);
  if (!in.AtEnd()) {
    connection_.reset();
    return Unavailable(name_ + ": its worker answered nonsense");
  }
  if (has_facts_ && facts != facts_) {
    connection_.reset();
    return Internal(name_ +
                    ": created anew it has other tables than before; they may depend on "
                    "the config alone");
  }
  facts_ = facts;
  has_facts_ = true;
  return OkStatus();
}

void Supervisor::Log(const retort_call* call, int32_t level, const std::string& text) const {
  if (call != nullptr) call->log(call->ctx, level, ToStr(text));
}

void Supervisor::BackOff(const retort_call* call) const {
  const size_t last = std::size(kBackOffMs) - 1;
  const int64_t until =
      NowNs() + kBackOffMs[std::min(static_cast<size_t>(failures_), last)] * 1'000'000;
  while (NowNs() < until && !IsCancelled(call)) poll(nullptr, 0, 2);
}

Status Supervisor::EnsureWorker(const retort_call* call) {
  if (connection_ != nullptr && connection_->usable()) {
    if (!connection_->HasEnded()) return OkStatus();
    last_failure_ = connection_->HowItEnded() + " between two calls";
  }
  Log(call, RETORT_LOG_WARNING, name_ + ": its worker " + last_failure_ + "; starting another");
  BackOff(call);
  RETORT_RETURN_IF_ERROR(Open());
  if (!restore) return OkStatus();
  restoring_ = true;
  const Status restored = restore(call);
  restoring_ = false;
  if (!restored.ok()) connection_.reset();
  return restored;
}

Answer Supervisor::Failed(Answer::Kind kind, std::string text) {
  ++failures_;
  last_failure_ = std::move(text);
  return {.kind = kind, .status = RETORT_UNAVAILABLE, .text = "its worker " + last_failure_};
}

Answer Supervisor::Violation(const std::string& what) {
  connection_.reset();
  return Failed(Answer::kFailed, "broke the protocol: " + what);
}

void Supervisor::GiveUp() {
  connection_.reset();
  out_text_ = name_ + " is out: its worker failed " + std::to_string(failures_) +
              " times in a row without a good answer; the last time it " + last_failure_ +
              ". Mend the plugin, or leave it out";
}

Answer Supervisor::Call(FrameType type, const retort_call* call, const Build& build,
                        Timing timing) {
  if (given_up()) {
    return {.kind = Answer::kOut, .status = RETORT_UNAVAILABLE, .text = out_text_};
  }
  if (!restoring_) {
    const int before = failures_;  // what fails while restoring counts once
    if (const Status ready = EnsureWorker(call); !ready.ok()) {
      failures_ = before;
      return Failed(Answer::kFailed, "could not be started again: " + ready.message());
    }
  }
  if (connection_ == nullptr || !connection_->usable()) {  // lost while restoring
    return {.kind = Answer::kFailed, .status = RETORT_UNAVAILABLE, .text = last_failure_};
  }
  int64_t end = NowNs() + timeout_ns();
  if (call->deadline_ns != 0) end = std::min(end, call->deadline_ns);
  if (timing.plugin_deadline_ns == 0) timing = {.plugin_deadline_ns = end, .cancel_at_ns = end};
  request_.Clear();
  PutCall({.deadline_ns = timing.plugin_deadline_ns,
           .step = call->step,
           .key = call->key,
           .n_threads = call->n_threads},
          request_);
  build(request_);
  const ExchangeLimits limits{.cancel_at_ns = timing.cancel_at_ns,
                              .grace_ns = options_.grace_ms * 1'000'000,
                              .cancel = call->cancel};
  return Take(type, connection_->Ask(type, request_, limits, SinksOf(call, name_)),
              timing.plugin_deadline_ns);
}

Answer Supervisor::Take(FrameType type, const Exchange& exchange, int64_t deadline_ns) {
  switch (exchange.end) {
    case ExchangeEnd::kReply: break;
    case ExchangeEnd::kTooLarge:
      return {
          .kind = Answer::kTooLarge, .status = RETORT_RESOURCE_EXHAUSTED, .text = exchange.text};
    case ExchangeEnd::kCancelled:
      last_failure_ = "was stopped";
      return {.kind = Answer::kCancelled, .status = RETORT_CANCELLED, .text = "stopped"};
    case ExchangeEnd::kDied:
      return Failed(Answer::kFailed, exchange.text + connection_->LastOutput());
    case ExchangeEnd::kTimedOut:
      return Failed(Answer::kTimedOut, "did not answer within timeout_ms (" +
                                           std::to_string(options_.timeout_ms) +
                                           ") and was killed" + connection_->LastOutput());
  }
  Answer answer;
  answer.fields = FrameReader(exchange.fields);
  answer.status = answer.fields.Int32();
  answer.text = answer.fields.Text();
  if (!answer.fields.ok()) return Violation("a reply without a status");
  const bool gave_up = answer.status == RETORT_DEADLINE_EXCEEDED ||
                       (answer.status == RETORT_CANCELLED && exchange.late);
  if (gave_up && (exchange.late || NowNs() >= deadline_ns)) {
    return Failed(Answer::kTimedOut, "came to the end of timeout_ms (" +
                                         std::to_string(options_.timeout_ms) + ") and stopped");
  }
  if (!restoring_ && ShowsThatItWorks(type)) NoteGood();
  return answer;
}

}  // namespace retort::host
