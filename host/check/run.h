// Runs parts of the check in child processes: a library under test is never mapped into the process
// that asks. A child that crashes, exits, hangs or keeps silent is an answer like any other.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/base/status.h"

namespace retort::host::check {

struct ChildResult {
  enum class End : uint8_t { kExited, kSignalled, kTimedOut, kCancelled };
  End end = End::kExited;
  int code = 0;        // exit code, or the signal's number
  std::string report;  // what it wrote to its report descriptor
  std::string errors;  // the last of what it wrote to its standard error output
  double seconds = 0;

  bool ok() const { return end == End::kExited && code == 0 && !report.empty(); }
  // How it ended, for people, with the last line of its errors; for results that are not ok().
  std::string Describe(int64_t timeout_ms) const;
};

struct ChildSettings {
  std::string worker_path;  // the worker program
  int64_t timeout_ms = 30'000;
  int n_parallel = 2;
  std::function<bool()> cancelled;              // asked often; may be empty
  std::function<void(size_t request)> on_done;  // may be empty
};

// One child per request (JSON for ChildMain); results in the order of the requests. Fails only when
// the worker program can't be started, or with CANCELLED.
Result<std::vector<ChildResult>> RunChildren(const std::vector<std::string>& requests,
                                             const ChildSettings& settings);

}  // namespace retort::host::check
