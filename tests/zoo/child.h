// Runs a program with a time limit and keeps what it wrote and how it ended.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace retort::host {

struct ChildEnd {
  bool exited = false;     // by itself, with `code`
  int code = 0;            // or the signal that ended it
  bool timed_out = false;  // it was told to stop: SIGTERM, then SIGKILL
  std::string output, errors;
  std::string Describe() const;
};

// argv[0] is the program. Its process group gets the signals, so that its children end too.
ChildEnd RunChild(const std::vector<std::string>& argv, int64_t limit_ms);

}  // namespace retort::host
