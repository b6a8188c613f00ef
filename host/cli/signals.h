// SIGINT and SIGTERM ask the running command to stop cleanly; a second SIGINT kills.
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

}  // namespace retort::cli
