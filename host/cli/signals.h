// SIGINT and SIGTERM ask the running command to stop cleanly; a second SIGINT kills. A crash inside
// a plugin is told by its name.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "retort/host.h"

namespace retort::cli {

// Handles signals for `context` (not NULL) while it lives; one at a time. SIGPIPE is ignored from
// the first one on: a closed pipe shows as a failed write.
class SignalScope {
 public:
  explicit SignalScope(retort_context* context);
  ~SignalScope();
  SignalScope(const SignalScope&) = delete;
  SignalScope& operator=(const SignalScope&) = delete;

  static bool interrupted();  // by a signal, since the first scope
};

// From here on a crash (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT) inside a plugin names it on
// standard error before the process dies of the same signal, and so does a plugin's exit, which
// becomes a failure.
void NamePluginsThatCrash();

}  // namespace retort::cli
