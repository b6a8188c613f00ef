// Keeps the thread's floating-point environment (rounding, traps, flush-to-zero) over code that is
// not ours: a library linked with -ffast-math sets flush-to-zero when it is mapped.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cfenv>

namespace retort::host {

class KeepFloatingPointMode {
 public:
  KeepFloatingPointMode() { std::fegetenv(&environment_); }
  ~KeepFloatingPointMode() { std::fesetenv(&environment_); }
  KeepFloatingPointMode(const KeepFloatingPointMode&) = delete;
  KeepFloatingPointMode& operator=(const KeepFloatingPointMode&) = delete;

 private:
  std::fenv_t environment_;
};

}  // namespace retort::host
