// Rule R7 for plugins that run in this process: what belongs to the process or the thread is as it
// was when a call returns. What isn't is put back, and the call fails with a text that says what.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <signal.h>

#include <array>
#include <cfenv>
#include <cstdint>
#include <string>

#include "core/base/status.h"

namespace retort::host {

// kThread: the floating-point environment (some ns). kProcess: also folder, file mode mask, locale,
// signal handlers and the standard descriptors (some 30 us): for calls that are not in an inner
// loop.
enum class Watch : uint8_t { kNothing, kThread, kProcess };

// How closely plugins of that kind are watched.
Watch WatchFor(const std::string& kind, bool builtin);

class ProcessWatch {
 public:
  explicit ProcessWatch(Watch watch);
  ~ProcessWatch();
  ProcessWatch(const ProcessWatch&) = delete;
  ProcessWatch& operator=(const ProcessWatch&) = delete;

  // Puts back what changed since it was made; what that was: "the current folder, the umask", or
  // "".
  std::string Restore();
  // The same as the failure that it is of the call.
  Status Finish();

 private:
  static constexpr std::array kSignals = {SIGSEGV, SIGBUS,  SIGFPE,  SIGILL, SIGABRT,
                                          SIGINT,  SIGTERM, SIGPIPE, SIGCHLD};
  void RestoreProcess(std::string* what);

  Watch watch_;
  std::fenv_t float_mode_{};
  int folder_ = -1;
  int mask_ = -1;
  std::string locale_;
  std::array<struct sigaction, kSignals.size()> handlers_{};
  std::array<bool, 3> standard_{};  // which of the standard descriptors are open
};

}  // namespace retort::host
