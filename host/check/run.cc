// Method: posix_spawn (never fork: the caller may have threads), each child in a process group of
// its own so that what it started is killed with it. The parent polls: the reports' descriptors
// must be drained while a child runs, and a child that is gone is noticed by waitpid alone, since a
// grandchild may keep its descriptors open.
// SPDX-License-Identifier: Apache-2.0
#include "host/check/run.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "core/base/clock.h"
#include "host/check/texts.h"

namespace retort::host::check {
namespace {

constexpr size_t kReportBytesMax = size_t{4} << 20;
constexpr size_t kErrorBytesKept = 2000;
constexpr int kPollMs = 20;
constexpr int kReportDescriptor = 3;  // in the child
constexpr int kFirstDescriptor = 16;  // in this process: clear of those that file actions set

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() { Close(); }
  void Close() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

struct Pipe {
  Descriptor read, write;
};

Result<Pipe> MakePipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return ResourceExhausted(std::string("pipe: ") + std::strerror(errno));
  }
  const Descriptor low_read(ends[0]), low_write(ends[1]);
  Pipe made{Descriptor(fcntl(ends[0], F_DUPFD_CLOEXEC, kFirstDescriptor)),
            Descriptor(fcntl(ends[1], F_DUPFD_CLOEXEC, kFirstDescriptor))};
  if (made.read.get() < 0 || made.write.get() < 0 ||
      fcntl(made.read.get(), F_SETFL, O_NONBLOCK) != 0) {
    return ResourceExhausted(std::string("pipe: ") + std::strerror(errno));
  }
  return made;
}

// What posix_spawn is told; freed with the object.
class SpawnPlan {
 public:
  SpawnPlan(int report, int errors) {
    posix_spawn_file_actions_init(&actions_);
    posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions_, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&actions_, errors, STDERR_FILENO);
    posix_spawn_file_actions_adddup2(&actions_, report, kReportDescriptor);
    posix_spawnattr_init(&attributes_);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setsigdefault(&attributes_, &all);
    posix_spawnattr_setpgroup(&attributes_, 0);
    posix_spawnattr_setflags(
        &attributes_, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;
  ~SpawnPlan() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  const posix_spawn_file_actions_t* actions() const { return &actions_; }
  const posix_spawnattr_t* attributes() const { return &attributes_; }

 private:
  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

class Child {
 public:
  static Result<std::unique_ptr<Child>> Start(const std::string& worker, std::string request,
                                              int64_t timeout_ms) {
    RETORT_ASSIGN_OR_RETURN(Pipe report, MakePipe());
    RETORT_ASSIGN_OR_RETURN(Pipe errors, MakePipe());
    const SpawnPlan plan(report.write.get(), errors.write.get());
    std::string program = worker, word = "check", fd = std::to_string(kReportDescriptor);
    const std::array<char*, 5> argv = {program.data(), word.data(), fd.data(), request.data(),
                                       nullptr};
    pid_t pid = 0;
    const int error =
        posix_spawn(&pid, worker.c_str(), plan.actions(), plan.attributes(), argv.data(), environ);
    if (error != 0) {
      return Unavailable("can't start " + worker +
                         ", which runs the checks: " + std::strerror(error));
    }
    auto child = std::unique_ptr<Child>(new Child);
    child->pid_ = pid;
    child->report_ = std::move(report.read);
    child->errors_ = std::move(errors.read);
    child->timeout_ms_ = timeout_ms;
    return child;
  }
  ~Child() { Kill(); }

  int report() const { return report_.get(); }
  int errors() const { return errors_.get(); }
  ChildResult& result() { return result_; }

  // Takes what there is to read, ends it when it is late; true once it is gone.
  bool Step() {
    Drain();
    if (!Reap(WNOHANG)) {
      if (watch_.Seconds() * 1e3 <= static_cast<double>(timeout_ms_)) return false;
      Stop(ChildResult::End::kTimedOut);
    }
    Drain();
    return true;
  }
  void Stop(ChildResult::End why) {
    Kill();
    result_.end = why;
  }

 private:
  Child() = default;

  // Kills the group; waits for the child.
  void Kill() {
    if (pid_ <= 0) return;
    kill(-pid_, SIGKILL);
    kill(pid_, SIGKILL);
    Reap(0);
  }

  bool Reap(int options) {
    int status = 0;
    pid_t got = 0;
    do {
      got = waitpid(pid_, &status, options);
    } while (got < 0 && errno == EINTR);
    if (got == 0) return false;
    result_.seconds = watch_.Seconds();
    if (got > 0 && WIFSIGNALED(status)) {
      result_.end = ChildResult::End::kSignalled;
      result_.code = WTERMSIG(status);
    } else if (got > 0) {
      result_.code = WEXITSTATUS(status);
    }
    kill(-pid_, SIGKILL);  // what it left behind
    pid_ = 0;
    return true;
  }

  void Drain() {
    char buffer[4096];
    ssize_t n = 0;
    while ((n = read(report_.get(), buffer, sizeof(buffer))) > 0) {
      const size_t room = kReportBytesMax - std::min(kReportBytesMax, result_.report.size());
      result_.report.append(buffer, std::min(static_cast<size_t>(n), room));
    }
    if (n == 0) report_.Close();
    while ((n = read(errors_.get(), buffer, sizeof(buffer))) > 0) {
      result_.errors.append(buffer, static_cast<size_t>(n));
      if (result_.errors.size() > 2 * kErrorBytesKept) {
        result_.errors.erase(0, result_.errors.size() - kErrorBytesKept);
      }
    }
    if (n == 0) errors_.Close();
  }

  pid_t pid_ = 0;
  Descriptor report_, errors_;
  int64_t timeout_ms_ = 0;
  Stopwatch watch_;
  ChildResult result_;
};

std::string LastLine(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  const size_t at = text.rfind('\n');
  return std::string(at == std::string_view::npos ? text : text.substr(at + 1));
}

struct Running {
  size_t request = 0;
  std::unique_ptr<Child> child;
};

void WaitForNews(const std::vector<Running>& running) {
  std::vector<pollfd> fds;
  for (const Running& one : running) {
    if (one.child->report() >= 0) fds.push_back({one.child->report(), POLLIN, 0});
    if (one.child->errors() >= 0) fds.push_back({one.child->errors(), POLLIN, 0});
  }
  poll(fds.data(), fds.size(), fds.empty() ? 1 : kPollMs);
}

}  // namespace

std::string ChildResult::Describe(int64_t timeout_ms) const {
  std::string text;
  switch (end) {
    case End::kTimedOut:
      text = "was not done after " + std::to_string(timeout_ms) + " ms and was killed";
      break;
    case End::kCancelled: text = "was cancelled"; break;
    case End::kSignalled: {
      const char* name = sigabbrev_np(code);
      text = "died of signal " + std::to_string(code) +
             (name == nullptr ? std::string() : " (SIG" + std::string(name) + ")");
      break;
    }
    case End::kExited:
      text = code == 0 && report.empty()
                 ? "ended the process with exit code 0 before the check was done"
                 : "ended the process with exit code " + std::to_string(code);
      break;
  }
  if (!report.empty() && end != End::kCancelled) text += ", after the check itself was done";
  const std::string last = LastLine(errors);
  return last.empty() ? text : text + "; its last words: " + Quoted(last, 200);
}

Result<std::vector<ChildResult>> RunChildren(const std::vector<std::string>& requests,
                                             const ChildSettings& settings) {
  std::vector<ChildResult> results(requests.size());
  std::vector<Running> running;
  size_t next = 0;
  while (next < requests.size() || !running.empty()) {
    if (settings.cancelled && settings.cancelled()) return Cancelled("the check was cancelled");
    while (next < requests.size() &&
           running.size() < static_cast<size_t>(std::max(1, settings.n_parallel))) {
      RETORT_ASSIGN_OR_RETURN(
          auto child, Child::Start(settings.worker_path, requests[next], settings.timeout_ms));
      running.push_back({next++, std::move(child)});
    }
    WaitForNews(running);
    for (size_t i = running.size(); i-- > 0;) {
      if (!running[i].child->Step()) continue;
      results[running[i].request] = std::move(running[i].child->result());
      if (settings.on_done) settings.on_done(running[i].request);
      running.erase(running.begin() + static_cast<ptrdiff_t>(i));
    }
  }
  return results;
}

}  // namespace retort::host::check
