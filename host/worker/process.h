// A worker as a process: started by posix_spawn (never fork: the host may have threads), with one
// socket, the cancel page and a pipe for what its plugin prints; watched and killed by pidfd, so
// that no other process of a reused id is ever hit.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "core/base/status.h"

namespace retort::host {

// A descriptor that is closed when it goes.
class OwnedFd {
 public:
  explicit OwnedFd(int fd = -1) : fd_(fd) {}
  OwnedFd(OwnedFd&& other) noexcept : fd_(other.Release()) {}
  OwnedFd& operator=(OwnedFd&& other) noexcept;
  ~OwnedFd();
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }
  void Close() { *this = OwnedFd(); }
  int Release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_;
};

class WorkerProcess {
 public:
  // NOT_FOUND: no such program, with the remedy; UNAVAILABLE: the system refused.
  static Result<WorkerProcess> Start(const std::string& program);
  WorkerProcess() = default;
  WorkerProcess(WorkerProcess&&) noexcept;
  WorkerProcess& operator=(WorkerProcess&&) noexcept;
  ~WorkerProcess();  // kills it and waits for it

  int socket() const { return socket_.get(); }  // does not block
  int pidfd() const { return pidfd_.get(); }    // readable: it has ended
  int output() const { return output_.get(); }  // what it prints; -1 after the end
  void CloseOutput() { output_.Close(); }
  // The page that the plugin's retort_call.cancel points to; 0 between calls.
  std::atomic<int32_t>& cancel() { return *cancel_; }

  bool HasEnded() const;
  // SIGKILL to it and to whatever it started in its process group; waits for its end, at most
  // some seconds (a process in an uninterruptible wait is left to the system).
  void Kill();
  // After its end: "was killed by signal 11 (Segmentation fault)", "exited with code 3".
  std::string HowItEnded();

 private:
  void Reap();

  pid_t pid_ = -1;
  bool reaped_ = false;
  int end_code_ = 0, end_status_ = 0;  // of siginfo_t
  OwnedFd socket_, pidfd_, output_;
  std::atomic<int32_t>* cancel_ = nullptr;
};

}  // namespace retort::host
