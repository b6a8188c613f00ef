// SPDX-License-Identifier: Apache-2.0
#include "host/worker/connection.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "core/base/clock.h"
#include "host/worker/log_text.h"

namespace retort::host {
namespace {

// How often the caller's cancel flag is looked at while the worker is busy.
constexpr int64_t kCancelSliceNs = 2'000'000;
constexpr uint64_t kMaxForwarded = uint64_t{64} << 10;
constexpr size_t kMaxLine = 1024, kMaxKept = 2048;

int64_t NowNs() { return RealClock().MonotonicNs(); }

bool IsSet(const int32_t* flag) {
  return flag != nullptr &&
         reinterpret_cast<const std::atomic<int32_t>*>(flag)->load(std::memory_order_relaxed) != 0;
}

}  // namespace

struct Connection::Talk {
  FrameType wanted;
  uint64_t number;
  std::vector<iovec> unsent;
  size_t next = 0;  // of unsent
  const ExchangeLimits& limits;
  const ExchangeSinks& sinks;
  int64_t kill_at_ns = INT64_MAX;
  bool by_caller = false;  // cancelled by the caller, not by the deadline
  bool asked_to_stop = false;

  bool all_sent() const { return next == unsent.size(); }
};

Result<std::unique_ptr<Connection>> Connection::Open(const std::string& program,
                                                     int64_t timeout_ns) {
  RETORT_ASSIGN_OR_RETURN(WorkerProcess process, WorkerProcess::Start(program));
  std::unique_ptr<Connection> self(new Connection(std::move(process)));
  const ExchangeLimits limits{.cancel_at_ns = NowNs() + timeout_ns};
  const ExchangeSinks no_sinks;
  Talk talk{
      .wanted = FrameType::kReady, .number = 0, .unsent = {}, .limits = limits, .sinks = no_sinks};
  const Exchange ready = self->Run(talk);
  if (ready.end == ExchangeEnd::kTimedOut) {
    return Unavailable("the worker " + program + " did not get ready in time");
  }
  if (ready.end != ExchangeEnd::kReply) {
    return Unavailable("the worker " + program + " could not start: " + ready.text +
                       self->LastOutput() + "; is it the retort-worker of this version?");
  }
  FrameReader in(ready.fields);
  const uint64_t protocol = in.Uint();
  if (!in.ok() || protocol != kWorkerProtocol) {
    return FailedPrecondition("the worker " + program + " speaks protocol " +
                              std::to_string(protocol) + ", this retort speaks " +
                              std::to_string(kWorkerProtocol) + "; install both from one build");
  }
  return self;
}

Connection::~Connection() = default;

std::string Connection::LastOutput() const {
  return last_output_.empty() ? "" : "; it printed last: " + last_output_;
}

Exchange Connection::End(ExchangeEnd end, std::string text) {
  usable_ = false;
  process_.Kill();
  Drain({});
  if (!line_.empty()) Keep(Printable(line_));
  line_.clear();
  return {.end = end, .late = false, .text = std::move(text), .fields = {}};
}

Exchange Connection::Ask(FrameType type, FrameWriter& request, const ExchangeLimits& limits,
                         const ExchangeSinks& sinks) {
  if (request.size() > kMaxFrameBytes) {
    return {.end = ExchangeEnd::kTooLarge,
            .late = false,
            .text = "the call has " + std::to_string(request.size()) +
                    " bytes, a worker takes at most " + std::to_string(kMaxFrameBytes),
            .fields = {}};
  }
  process_.cancel().store(0, std::memory_order_relaxed);
  forwarded_ = 0;
  Talk talk{.wanted = FrameType::kReply,
            .number = ++number_,
            .unsent = request.Seal(type, number_),
            .limits = limits,
            .sinks = sinks};
  return Run(talk);
}

// Until the reply is there or the conversation is over.
Exchange Connection::Run(Talk& talk) {
  Exchange ended;
  for (;;) {
    if (!talk.all_sent() && Send(talk, &ended)) return ended;
    const int64_t now = NowNs();
    if (!talk.asked_to_stop) {
      talk.by_caller = IsSet(talk.limits.cancel);
      if (talk.by_caller || now >= talk.limits.cancel_at_ns) {
        talk.asked_to_stop = true;
        talk.kill_at_ns = now + talk.limits.grace_ns;
        process_.cancel().store(1, std::memory_order_relaxed);
      }
    }
    if (now >= talk.kill_at_ns) {
      return talk.by_caller ? End(ExchangeEnd::kCancelled, "stopped")
                            : End(ExchangeEnd::kTimedOut, "no answer before the deadline");
    }
    int64_t wait = (talk.asked_to_stop ? talk.kill_at_ns : talk.limits.cancel_at_ns) - now;
    if (talk.limits.cancel != nullptr && !talk.asked_to_stop) wait = std::min(wait, kCancelSliceNs);
    wait = std::min(wait, int64_t{3'600'000'000'000});
    const timespec timeout{wait / 1'000'000'000, wait % 1'000'000'000};
    pollfd fds[] = {
        {process_.socket(), static_cast<short>(POLLIN | (talk.all_sent() ? 0 : POLLOUT)), 0},
        {process_.output(), POLLIN, 0},
        {process_.pidfd(), POLLIN, 0}};
    if (ppoll(fds, 3, &timeout, nullptr) <= 0) continue;  // time has passed, or a signal came
    if (fds[1].revents != 0) Drain(talk.sinks);
    // An answer counts even if the process ended after it.
    if (fds[0].revents != 0 && Receive(talk, &ended)) return ended;
    if (fds[2].revents != 0) {
      if (Receive(talk, &ended)) return ended;
      return End(ExchangeEnd::kDied, process_.HowItEnded());
    }
  }
}

// Sends what the socket takes. True: the conversation is over.
bool Connection::Send(Talk& talk, Exchange* ended) {
  while (!talk.all_sent()) {
    msghdr message{};
    message.msg_iov = &talk.unsent[talk.next];
    message.msg_iovlen = std::min<size_t>(talk.unsent.size() - talk.next, IOV_MAX);
    const ssize_t sent = sendmsg(process_.socket(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
    if (sent < 0) {  // closed by the other side: it is dead, or about to be
      const std::string reason = std::strerror(errno);
      pollfd dies{process_.pidfd(), POLLIN, 0};
      poll(&dies, 1, 100);
      *ended = End(ExchangeEnd::kDied,
                   dies.revents != 0 ? process_.HowItEnded() : "closed its socket: " + reason);
      return true;
    }
    auto left = static_cast<size_t>(sent);
    while (left > 0) {
      iovec& piece = talk.unsent[talk.next];
      const size_t n = std::min(left, piece.iov_len);
      piece.iov_base = static_cast<char*>(piece.iov_base) + n;
      piece.iov_len -= n;
      left -= n;
      if (piece.iov_len == 0) ++talk.next;
    }
  }
  return false;
}

// Takes what is there. True: the conversation, or this exchange, is over.
bool Connection::Receive(Talk& talk, Exchange* ended) {
  for (;;) {
    if (TakeFrames(talk, ended)) return true;
    const Result<std::span<char>> room = inbox_.Room();
    if (!room.ok()) {
      *ended = End(ExchangeEnd::kDied, "broke the protocol: " + room.status().message());
      return true;
    }
    const ssize_t n = recv(process_.socket(), room->data(), room->size(), MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
    if (n <= 0) {
      pollfd dies{process_.pidfd(), POLLIN, 0};
      poll(&dies, 1, 100);  // usually it is a crash: the socket closes a moment before the end
      *ended =
          End(ExchangeEnd::kDied, dies.revents != 0 ? process_.HowItEnded() : "closed its socket");
      return true;
    }
    inbox_.Arrived(static_cast<uint64_t>(n));
    // A flood of frames must not keep the deadline from being seen.
    if (NowNs() >= talk.kill_at_ns || NowNs() >= talk.limits.cancel_at_ns) {
      return TakeFrames(talk, ended);
    }
  }
}

bool Connection::TakeFrames(Talk& talk, Exchange* ended) {
  const auto broken = [&](const std::string& why) {
    *ended = End(ExchangeEnd::kDied, "broke the protocol: " + why);
    return true;
  };
  Inbox::Frame frame;
  for (;;) {
    const Result<bool> next = inbox_.Next(&frame);
    if (!next.ok()) return broken(next.status().message());
    if (!*next) return false;
    FrameReader in(frame.fields);
    if (frame.type == talk.wanted && frame.number == talk.number && talk.all_sent()) {
      *ended = {.end = ExchangeEnd::kReply,
                .late = talk.asked_to_stop && !talk.by_caller,
                .text = {},
                .fields = frame.fields};
      return true;
    }
    if (frame.type == FrameType::kLog) {
      const int32_t level = in.Int32();
      const std::string_view text = in.Text();
      if (!in.ok()) return broken("a log line that is none");
      if (talk.sinks.log) {
        talk.sinks.log(std::clamp(level, RETORT_LOG_DEBUG, RETORT_LOG_ERROR), text);
      }
    } else if (frame.type == FrameType::kProgress) {
      const double fraction = in.Double();
      const std::string_view what = in.Text();
      if (!in.ok()) return broken("progress that is none");
      if (talk.sinks.progress && fraction >= 0 && fraction <= 1)
        talk.sinks.progress(fraction, what);
    } else {
      return broken("an unexpected frame of type " +
                    std::to_string(static_cast<uint32_t>(frame.type)));
    }
  }
}

// What the plugin prints becomes log lines, cut and counted; a plugin that prints without end is
// read without end, until its deadline, and most of it is thrown away.
void Connection::Drain(const ExchangeSinks& sinks) {
  char bytes[16384];
  for (int i = 0; i < 16 && process_.output() >= 0; ++i) {
    const ssize_t n = read(process_.output(), bytes, sizeof bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return;
    if (n == 0) return process_.CloseOutput();
    Print({bytes, static_cast<size_t>(n)}, sinks);
  }
}

void Connection::Print(std::string_view bytes, const ExchangeSinks& sinks) {
  while (!bytes.empty()) {
    const size_t end = bytes.find('\n');
    const std::string_view part = bytes.substr(0, end);
    line_.append(part.substr(0, kMaxLine - std::min(line_.size(), kMaxLine)));
    if (end == std::string_view::npos) break;
    bytes.remove_prefix(end + 1);
    const std::string line = Printable(line_);
    line_.clear();
    if (line.empty()) continue;
    Keep(line);
    if (!sinks.log || forwarded_ > kMaxForwarded) continue;
    forwarded_ += line.size() + 1;
    sinks.log(RETORT_LOG_INFO,
              "prints: " + (forwarded_ > kMaxForwarded ? "(more is left out)" : line));
  }
}

void Connection::Keep(std::string_view line) {
  if (!last_output_.empty()) last_output_ += " | ";
  last_output_ += line;
  if (last_output_.size() > kMaxKept) last_output_.erase(0, last_output_.size() - kMaxKept);
}

}  // namespace retort::host
