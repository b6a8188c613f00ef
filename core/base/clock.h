// The one clock, an interface so that tests decide what time it is.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace retort {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual int64_t MonotonicNs() const = 0;  // CLOCK_MONOTONIC: for durations and deadlines
  virtual int64_t WallNs() const = 0;       // since 1970 UTC: for people and logs only
};

const Clock& RealClock();

// "2026-01-31T12:00:00.123Z"
std::string FormatUtc(int64_t wall_ns);
// A short duration for people: "0.4 s", "12 s", "3 min 04 s", "2 h 10 min".
std::string FormatSeconds(double seconds);

// Seconds since it was made or restarted.
class Stopwatch {
 public:
  explicit Stopwatch(const Clock& clock = RealClock())
      : clock_(&clock), start_(clock.MonotonicNs()) {}
  double Seconds() const { return static_cast<double>(clock_->MonotonicNs() - start_) * 1e-9; }
  void Restart() { start_ = clock_->MonotonicNs(); }

 private:
  const Clock* clock_;
  int64_t start_;
};

}  // namespace retort
