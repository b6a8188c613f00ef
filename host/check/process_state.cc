// SPDX-License-Identifier: Apache-2.0
#include "host/check/process_state.h"

#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cfenv>
#include <cfloat>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <vector>

#include "core/base/clock.h"
#include "host/check/texts.h"

namespace retort::host::check {
namespace {

std::string Locale() {
  const char* text = std::setlocale(LC_ALL, nullptr);
  return text == nullptr ? "" : text;
}

std::string Folder() {
  char path[4096];
  return getcwd(path, sizeof(path)) == nullptr ? "none" : path;
}

std::string FileMode() {
  const mode_t mask = umask(0);
  umask(mask);
  char text[16];
  std::snprintf(text, sizeof(text), "%04o", static_cast<unsigned>(mask));
  return text;
}

std::string Signals() {
  std::string text;
  for (int s = 1; s < NSIG; ++s) {
    struct sigaction action {};
    if (sigaction(s, nullptr, &action) != 0) continue;
    const bool info = (action.sa_flags & SA_SIGINFO) != 0;
    if (!info && action.sa_handler == SIG_DFL) continue;
    text += (text.empty() ? "" : ", ") + std::to_string(s);
    text += !info && action.sa_handler == SIG_IGN ? " ignored" : " handled";
  }
  sigset_t mask;
  pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  for (int s = 1; s < NSIG; ++s) {
    if (sigismember(&mask, s) == 1)
      text += (text.empty() ? "" : ", ") + std::to_string(s) + " blocked";
  }
  stack_t stack{};
  sigaltstack(nullptr, &stack);
  if ((stack.ss_flags & SS_DISABLE) == 0)
    text += (text.empty() ? "" : ", ") + std::string("a signal stack");
  return text.empty() ? "all default" : text;
}

// Seen by what arithmetic does, so that it holds on every machine.
std::string FloatMode() {
  const volatile double smallest = DBL_MIN;
  const volatile double subnormal = 4.9406564584124654e-324;
  const volatile double half = smallest / 2;        // 0 when results are flushed
  const volatile double back = subnormal * 0x1p60;  // 0 when operands are
  std::string text = "rounding " + std::to_string(std::fegetround());
  text += half == 0 ? ", flushes subnormal results to zero" : "";
  text += back == 0 ? ", takes subnormal operands as zero" : "";
  if (const int traps = fegetexcept(); traps != 0) text += ", traps " + std::to_string(traps);
  return text;
}

std::string Environment() {
  std::string text;
  for (char** at = environ; at != nullptr && *at != nullptr; ++at) text += std::string(*at) + "\n";
  return text;
}

std::string Descriptors() {
  std::string text;
  for (int fd = 0; fd <= 2; ++fd) {
    struct stat info {};
    text += std::to_string(fd);
    if (fstat(fd, &info) != 0) {
      text += " closed; ";
      continue;
    }
    text += " is " + std::to_string(info.st_dev) + ":" + std::to_string(info.st_ino) + " flags " +
            std::to_string(fcntl(fd, F_GETFL)) + "; ";
  }
  return text;
}

std::string Limits() {
  std::string text;
  for (const auto resource : {RLIMIT_AS, RLIMIT_CORE, RLIMIT_NOFILE, RLIMIT_STACK, RLIMIT_CPU}) {
    rlimit limit{};
    getrlimit(resource, &limit);
    text += std::to_string(limit.rlim_cur) + "/" + std::to_string(limit.rlim_max) + " ";
  }
  return text + "priority " + std::to_string(getpriority(PRIO_PROCESS, 0));
}

int64_t CountEntries(const char* folder) {
  DIR* dir = opendir(folder);
  if (dir == nullptr) return 0;
  int64_t n = 0;
  while (const dirent* entry = readdir(dir)) n += entry->d_name[0] == '.' ? 0 : 1;
  closedir(dir);
  return n;
}

uint64_t ResidentBytes() {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr) return 0;
  unsigned long long total = 0, resident = 0;
  const int n = std::fscanf(file, "%llu %llu", &total, &resident);
  std::fclose(file);
  return n == 2 ? resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) : 0;
}

// Children that run or wait to be fetched; none of ours are started here.
int64_t CountChildren() {
  siginfo_t info{};
  return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 ? 1 : 0;
}

}  // namespace

ProcessState ProcessState::Now() {
  return {.locale = Locale(),
          .folder = Folder(),
          .file_mode = FileMode(),
          .signals = Signals(),
          .float_mode = FloatMode(),
          .environment = Environment(),
          .descriptors = Descriptors(),
          .limits = Limits()};
}

std::string Difference(const char* what, const std::string& before, const std::string& after) {
  if (before == after) return "";
  // Long texts (the environment) from where they differ.
  size_t at = 0;
  while (at < before.size() && at < after.size() && before[at] == after[at]) ++at;
  const size_t start = before.size() < 200 && after.size() < 200 ? 0 : before.rfind('\n', at) + 1;
  return std::string(what) + " was " + Quoted(std::string_view(before).substr(start), 200) +
         ", then " + Quoted(std::string_view(after).substr(std::min(start, after.size())), 200);
}

ProcessCounts ProcessCounts::Now() {
  ProcessCounts counts;
  counts.threads = CountEntries("/proc/self/task");
  counts.descriptors = CountEntries("/proc/self/fd");
  counts.children = CountChildren();
  counts.resident_bytes = ResidentBytes();
  const struct mallinfo2 heap = mallinfo2();
  counts.heap_bytes = heap.uordblks + heap.hblkhd;
  return counts;
}

int64_t SettledThreads(int64_t expected, double seconds_max) {
  const Stopwatch watch;
  int64_t n = CountEntries("/proc/self/task");
  while (n > expected && watch.Seconds() < seconds_max) {
    usleep(2000);  // a thread that was joined may still be on its way out of the kernel
    n = CountEntries("/proc/self/task");
  }
  return n;
}

OutputCapture::OutputCapture() : file_(memfd_create("output", MFD_CLOEXEC)) {
  std::fflush(nullptr);
  for (int i = 0; i < 2; ++i) {
    saved_[i] = fcntl(STDOUT_FILENO + i, F_DUPFD_CLOEXEC, 100);
    dup2(file_, STDOUT_FILENO + i);
  }
}

std::string OutputCapture::Finish() {
  std::fflush(nullptr);
  std::cout.flush();
  std::clog.flush();
  struct stat info {};
  fstat(file_, &info);
  std::string text(static_cast<size_t>(info.st_size), '\0');
  const ssize_t n = pread(file_, text.data(), text.size(), 0);
  text.resize(n < 0 ? 0 : static_cast<size_t>(n));
  return text;
}

OutputCapture::~OutputCapture() {
  for (int i = 0; i < 2; ++i) {
    if (saved_[i] < 0) continue;
    dup2(saved_[i], STDOUT_FILENO + i);
    close(saved_[i]);
  }
  if (file_ >= 0) close(file_);
}

}  // namespace retort::host::check
