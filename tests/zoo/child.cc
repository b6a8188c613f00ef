// SPDX-License-Identifier: Apache-2.0
#include "tests/zoo/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>

#include "core/io/posix.h"

namespace retort::host {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kGraceMs = 1000;  // between SIGTERM and SIGKILL

struct Pipe {
  io::Fd read, write;
  Pipe() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) == 0) {
      read = io::Fd(ends[0]);
      write = io::Fd(ends[1]);
    }
  }
};

pid_t Spawn(const std::vector<std::string>& argv, const Pipe& output, const Pipe& errors) {
  std::vector<char*> words;
  for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&files, output.write.get(), 1);
  posix_spawn_file_actions_adddup2(&files, errors.write.get(), 2);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  pid_t pid = -1;
  const int error = posix_spawn(&pid, words[0], &files, &attributes, words.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  return error == 0 ? pid : -1;
}

// False at the end of the stream.
bool Take(const io::Fd& from, std::string* to) {
  std::array<char, 65536> chunk;
  const ssize_t n = io::Uninterrupted([&] { return read(from.get(), chunk.data(), chunk.size()); });
  if (n > 0) to->append(chunk.data(), static_cast<size_t>(n));
  return n > 0;
}

// Reads both streams until the child has ended. A process that it left behind may keep them open.
int Watch(pid_t pid, Pipe& output, Pipe& errors, int64_t limit_ms, ChildEnd* end) {
  auto deadline = Clock::now() + std::chrono::milliseconds(limit_ms);
  std::array<pollfd, 2> streams = {pollfd{output.read.get(), POLLIN, 0},
                                   pollfd{errors.read.get(), POLLIN, 0}};
  int status = 0;
  for (bool ended = false;;) {
    const int n = poll(streams.data(), streams.size(), 20);
    if (n > 0) {
      if (streams[0].revents != 0 && !Take(output.read, &end->output)) streams[0].fd = -1;
      if (streams[1].revents != 0 && !Take(errors.read, &end->errors)) streams[1].fd = -1;
      if (!ended) ended = waitpid(pid, &status, WNOHANG) == pid;
      continue;
    }
    if (ended) return status;
    ended = waitpid(pid, &status, WNOHANG) == pid;
    if (!ended && Clock::now() > deadline) {
      // A stopped process takes SIGTERM only once it goes on.
      kill(-pid, end->timed_out ? SIGKILL : SIGTERM);
      kill(-pid, SIGCONT);
      end->timed_out = true;
      deadline = Clock::now() + std::chrono::milliseconds(kGraceMs);
    }
  }
}

}  // namespace

std::string ChildEnd::Describe() const {
  return (timed_out ? "stopped after its time, " : "") + std::string(exited ? "exit " : "signal ") +
         std::to_string(code) + "\nstdout: " + output + "\nstderr: " + errors;
}

ChildEnd RunChild(const std::vector<std::string>& argv, int64_t limit_ms) {
  ChildEnd end;
  Pipe output, errors;
  const pid_t pid = Spawn(argv, output, errors);
  if (pid < 0) {
    end.errors = "cannot start " + argv[0];
    return end;
  }
  output.write = io::Fd();
  errors.write = io::Fd();
  const int status = Watch(pid, output, errors, limit_ms, &end);
  kill(-pid, SIGKILL);  // whoever it left behind
  end.exited = WIFEXITED(status);
  end.code = end.exited ? WEXITSTATUS(status) : WTERMSIG(status);
  return end;
}

}  // namespace retort::host
