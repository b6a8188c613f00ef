// Which plugin this thread is inside of: for the message of a program whose plugin crashes it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace retort::host {

// "reward crash (/path/x.so)" while this thread is in a call into a plugin or opens a library,
// else NULL. Async-signal-safe: a handler of SIGSEGV may call it and write what it points to.
const char* RunningPlugin();

// Names the plugin for as long as it lives; nests. `name` is copied.
class RunningScope {
 public:
  explicit RunningScope(const char* name);
  ~RunningScope();
  RunningScope(const RunningScope&) = delete;
  RunningScope& operator=(const RunningScope&) = delete;

 private:
  const char* before_;
};

}  // namespace retort::host
