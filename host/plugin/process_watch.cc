// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/process_watch.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <clocale>
#include <cstring>
#include <string_view>

#include "core/io/posix.h"
#include "retort/abi/entry.h"

namespace retort::host {
namespace {

// The parts of the environment that change results or end the program: rounding, traps, flush to
// zero; not the flags that ordinary arithmetic raises.
bool SameMode(const std::fenv_t& a, const std::fenv_t& b) {
#if defined(__x86_64__)
  constexpr unsigned kSseFlags = 0x3f;
  return a.__control_word == b.__control_word &&
         (a.__mxcsr & ~kSseFlags) == (b.__mxcsr & ~kSseFlags);
#else
  return a.__fpcr == b.__fpcr;
#endif
}

// Read where the kernel shows it: umask() can't look without changing it for all threads. -1: not
// known.
int FileModeMask() {
  const io::Fd file(::open("/proc/self/status", O_RDONLY | O_CLOEXEC));
  char text[1024];
  const ssize_t n = file.ok() ? ::read(file.get(), text, sizeof text) : 0;
  const std::string_view status(text, n > 0 ? static_cast<size_t>(n) : 0);
  constexpr std::string_view kKey = "Umask:\t";
  const size_t at = status.find(kKey);
  int mask = -1;
  if (at != std::string_view::npos) {
    std::from_chars(status.data() + at + kKey.size(), status.data() + status.size(), mask, 8);
  }
  return mask;
}

bool SameHandler(const struct sigaction& a, const struct sigaction& b) {
  constexpr int kRestorer = 0x04000000;  // libc's own: set once a handler was set
  return a.sa_handler == b.sa_handler && (a.sa_flags & ~kRestorer) == (b.sa_flags & ~kRestorer);
}

bool IsOpen(int fd) { return fcntl(fd, F_GETFD) != -1; }

bool SameFolder(int folder) {
  struct stat before {
  }, now{};
  return folder < 0 || fstat(folder, &before) != 0 ||
         (stat(".", &now) == 0 && now.st_dev == before.st_dev && now.st_ino == before.st_ino);
}

void Add(std::string* what, const char* part) {
  if (!what->empty()) *what += ", ";
  *what += part;
}

}  // namespace

Watch WatchFor(const std::string& kind, bool builtin) {
  if (builtin) return Watch::kNothing;
  const bool inner =
      kind == RETORT_KIND_OP || kind == RETORT_KIND_LOSS || kind == RETORT_KIND_OPTIMIZER;
  return inner ? Watch::kThread : Watch::kProcess;
}

ProcessWatch::ProcessWatch(Watch watch) : watch_(watch) {
  if (watch_ == Watch::kNothing) return;
  std::fegetenv(&float_mode_);
  if (watch_ == Watch::kThread) return;
  folder_ = ::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
  mask_ = FileModeMask();
  locale_ = std::setlocale(LC_ALL, nullptr);
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], nullptr, &handlers_[i]);
  for (int fd = 0; fd < 3; ++fd) standard_[static_cast<size_t>(fd)] = IsOpen(fd);
}

ProcessWatch::~ProcessWatch() {
  Restore();
  if (folder_ >= 0) ::close(folder_);
}

std::string ProcessWatch::Restore() {
  std::string what;
  if (watch_ == Watch::kNothing) return what;
  std::fenv_t now;
  std::fegetenv(&now);
  if (!SameMode(now, float_mode_)) {
    std::fesetenv(&float_mode_);
    Add(&what, "the floating-point mode");
  }
  if (watch_ == Watch::kProcess) RestoreProcess(&what);
  return what;
}

Status ProcessWatch::Finish() {
  const std::string what = Restore();
  if (what.empty()) return OkStatus();
  return FailedPrecondition("the plugin changed " + what + " of this process; it was put back. " +
                            "Plugins leave the process as it is (R7)");
}

void ProcessWatch::RestoreProcess(std::string* what) {
  if (!SameFolder(folder_) && fchdir(folder_) == 0) Add(what, "the current folder");
  const int mask = FileModeMask();
  if (mask != mask_ && mask_ >= 0) {
    umask(static_cast<mode_t>(mask_));
    Add(what, "the umask");
  }
  if (locale_ != std::setlocale(LC_ALL, nullptr)) {
    std::setlocale(LC_ALL, locale_.c_str());
    Add(what, "the locale");
  }
  bool handlers = false;
  for (size_t i = 0; i < kSignals.size(); ++i) {
    struct sigaction now {};
    if (sigaction(kSignals[i], nullptr, &now) != 0 || SameHandler(now, handlers_[i])) continue;
    sigaction(kSignals[i], &handlers_[i], nullptr);
    handlers = true;
  }
  if (handlers) Add(what, "signal handlers");
  bool closed = false;
  for (int fd = 0; fd < 3; ++fd) {
    if (!standard_[static_cast<size_t>(fd)] || IsOpen(fd)) continue;
    // So that no file of ours becomes somebody's standard output.
    const int null_device = ::open("/dev/null", O_RDWR);
    if (null_device >= 0 && null_device != fd) {
      dup2(null_device, fd);
      ::close(null_device);
    }
    closed = true;
  }
  if (closed) Add(what, "standard descriptors (closed; now /dev/null)");
}

}  // namespace retort::host
