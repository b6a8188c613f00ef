// SPDX-License-Identifier: Apache-2.0
#include "host/worker/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "host/worker/frame.h"

namespace retort::host {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr int kEndWaitMs = 5000;
// Asked for; the system gives what it allows. Larger: fewer switches between the two processes.
constexpr int kSocketBytes = 4 << 20;

Status Refused(const char* what, int error) {
  return Unavailable(std::string("can't start a worker: ") + what + ": " + std::strerror(error));
}

struct Sockets {
  OwnedFd ours, theirs;
};

Result<Sockets> MakeSockets() {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
    return Refused("socketpair", errno);
  }
  Sockets sockets{OwnedFd(pair[0]), OwnedFd(pair[1])};
  for (const int fd : pair) {
    // Not allowed to go over the system's limit: then the limit it is.
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kSocketBytes, sizeof kSocketBytes);
  }
  if (fcntl(sockets.ours.get(), F_SETFL, O_NONBLOCK) != 0) return Refused("fcntl", errno);
  return sockets;
}

struct CancelPage {
  OwnedFd fd;
  std::atomic<int32_t>* flag = nullptr;
};

// Sealed: a worker that shrank the file would get the host a SIGBUS.
Result<CancelPage> MakeCancelPage() {
  CancelPage page{OwnedFd(memfd_create("retort-cancel", MFD_CLOEXEC | MFD_ALLOW_SEALING)), nullptr};
  if (!page.fd.ok()) return Refused("memfd_create", errno);
  if (ftruncate(page.fd.get(), kPageBytes) != 0) return Refused("ftruncate", errno);
  if (fcntl(page.fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return Refused("sealing the cancel page", errno);
  }
  void* at = mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, page.fd.get(), 0);
  if (at == MAP_FAILED) return Refused("mmap", errno);
  page.flag = new (at) std::atomic<int32_t>(0);
  return page;
}

// The child's descriptors: 0 reads nothing, 1 and 2 are the pipe, then the two of frame.h, and
// nothing else that this process has open.
int AddActions(posix_spawn_file_actions_t* actions, int socket, int page, int output) {
  // First to numbers above all of them, so that no move overwrites the source of a later one.
  const int high = std::max({socket, page, output, kWorkerCancelFd}) + 1;
  const int from[] = {output, socket, page};
  for (int i = 0; i < 3; ++i) {
    if (const int e = posix_spawn_file_actions_adddup2(actions, from[i], high + i)) return e;
  }
  if (const int e = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0)) {
    return e;
  }
  const std::pair<int, int> moves[] = {
      {high, 1}, {high, 2}, {high + 1, kWorkerSocketFd}, {high + 2, kWorkerCancelFd}};
  for (const auto& [source, target] : moves) {
    if (const int e = posix_spawn_file_actions_adddup2(actions, source, target)) return e;
  }
  return posix_spawn_file_actions_addclosefrom_np(actions, kWorkerCancelFd + 1);
}

// A process group of its own: Ctrl-C on the terminal is the host's to handle, and whatever the
// plugin starts can be killed with it. Signals as a fresh program has them.
int SetAttributes(posix_spawnattr_t* attributes) {
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  sigdelset(&all, SIGKILL);
  sigdelset(&all, SIGSTOP);
  if (const int e = posix_spawnattr_setsigmask(attributes, &none)) return e;
  if (const int e = posix_spawnattr_setsigdefault(attributes, &all)) return e;
  if (const int e = posix_spawnattr_setpgroup(attributes, 0)) return e;
  return posix_spawnattr_setflags(
      attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
}

int Spawn(const std::string& program, int socket, int page, int output, pid_t* pid) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  if (const int e = posix_spawn_file_actions_init(&actions)) return e;
  if (const int e = posix_spawnattr_init(&attributes)) {
    posix_spawn_file_actions_destroy(&actions);
    return e;
  }
  int error = AddActions(&actions, socket, page, output);
  if (error == 0) error = SetAttributes(&attributes);
  if (error == 0) {
    char name[] = "retort-worker", mode[] = "serve";
    char* const argv[] = {name, mode, nullptr};
    error = posix_spawn(pid, program.c_str(), &actions, &attributes, argv, environ);
  }
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

std::string SignalText(int number) {
  const char* name = sigdescr_np(number);
  return "was killed by signal " + std::to_string(number) +
         (name == nullptr ? "" : std::string(" (") + name + ")");
}

}  // namespace

OwnedFd& OwnedFd::operator=(OwnedFd&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) close(fd_);
    fd_ = other.Release();
  }
  return *this;
}

OwnedFd::~OwnedFd() {
  if (fd_ >= 0) close(fd_);
}

Result<WorkerProcess> WorkerProcess::Start(const std::string& program) {
  if (access(program.c_str(), X_OK) != 0) {
    const int error = errno;
    return NotFound("can't start a worker: " + program + ": " + std::strerror(error) +
                    ". It is installed as libexec/retort/retort-worker; name another with "
                    "RETORT_WORKER, or run the plugin in this process: \"isolate\": false");
  }
  WorkerProcess worker;
  RETORT_ASSIGN_OR_RETURN(Sockets sockets, MakeSockets());
  RETORT_ASSIGN_OR_RETURN(CancelPage page, MakeCancelPage());
  worker.cancel_ = page.flag;
  int pipe[2];
  if (pipe2(pipe, O_CLOEXEC) != 0) return Refused("pipe", errno);
  worker.output_ = OwnedFd(pipe[0]);
  const OwnedFd their_output(pipe[1]);
  if (fcntl(pipe[0], F_SETFL, O_NONBLOCK) != 0) return Refused("fcntl", errno);
  if (const int error =
          Spawn(program, sockets.theirs.get(), page.fd.get(), their_output.get(), &worker.pid_)) {
    return Refused(program.c_str(), error);
  }
  worker.socket_ = std::move(sockets.ours);
  worker.pidfd_ = OwnedFd(static_cast<int>(syscall(SYS_pidfd_open, worker.pid_, 0)));
  if (!worker.pidfd_.ok()) return Refused("pidfd_open", errno);  // killed by the destructor
  return worker;
}

WorkerProcess::WorkerProcess(WorkerProcess&& other) noexcept { *this = std::move(other); }

WorkerProcess& WorkerProcess::operator=(WorkerProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(reaped_, other.reaped_);
  std::swap(end_code_, other.end_code_);
  std::swap(end_status_, other.end_status_);
  std::swap(socket_, other.socket_);
  std::swap(pidfd_, other.pidfd_);
  std::swap(output_, other.output_);
  std::swap(cancel_, other.cancel_);
  return *this;
}

WorkerProcess::~WorkerProcess() {
  if (pid_ >= 0) Kill();
  if (cancel_ != nullptr) munmap(cancel_, kPageBytes);
}

bool WorkerProcess::HasEnded() const {
  if (pid_ < 0 || reaped_) return true;
  pollfd ended{pidfd_.get(), POLLIN, 0};
  return poll(&ended, 1, 0) > 0;
}

void WorkerProcess::Kill() {
  if (pid_ < 0 || reaped_) return;
  // Until it is reaped, its id names it and its group and nobody else.
  if (pidfd_.ok()) syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
  kill(-pid_, SIGKILL);
  if (!pidfd_.ok()) kill(pid_, SIGKILL);
  Reap();
}

void WorkerProcess::Reap() {
  if (reaped_) return;
  if (pidfd_.ok()) {
    pollfd ended{pidfd_.get(), POLLIN, 0};
    while (poll(&ended, 1, kEndWaitMs) < 0 && errno == EINTR) {
    }
    if (ended.revents == 0) return;
  }
  siginfo_t info{};
  int result = 0;
  do {
    result = waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED);
  } while (result != 0 && errno == EINTR);
  reaped_ = true;
  // An embedding program that ignores SIGCHLD or waits for all children takes the code away.
  end_code_ = result == 0 ? info.si_code : 0;
  end_status_ = result == 0 ? info.si_status : 0;
}

std::string WorkerProcess::HowItEnded() {
  if (!reaped_ && HasEnded()) {
    kill(-pid_, SIGKILL);  // what it left behind
    Reap();
  }
  if (!reaped_) return "does not answer";
  if (end_code_ == CLD_EXITED) return "exited with code " + std::to_string(end_status_);
  if (end_code_ == CLD_KILLED || end_code_ == CLD_DUMPED) return SignalText(end_status_);
  return "ended";
}

}  // namespace retort::host
