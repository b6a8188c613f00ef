// How far long work is, for people: counts, rate, time left, the metric that matters; and how
// often it is worth saying.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/base/clock.h"

namespace retort::host {

struct ProgressState {
  std::string what;              // "cot", "logprob"
  double done = 0, total = 0;    // total 0: not known
  std::string unit;              // "samples"
  double fraction = -1;          // of the whole; negative: done / total
  double tokens_per_second = 0;  // 0: not known
  std::string metric = {};       // "loss" or ""
  double value = 0;
};

struct ProgressLine {
  double fraction = -1;  // negative: not known
  std::string text;
};

class ProgressMeter {
 public:
  // `watched`: a person watches a bar (ten lines a second at most), else one line every ten
  // seconds. The first and the last of a piece of work always come.
  explicit ProgressMeter(bool watched, const Clock& clock = RealClock())
      : watched_(watched), clock_(&clock) {}

  // The line to show now, or nothing.
  std::optional<ProgressLine> Update(const ProgressState& state);

 private:
  std::string Text(const ProgressState& state, double fraction, double seconds) const;

  bool watched_;
  const Clock* clock_;
  std::string what_;  // the work under way
  int64_t started_ns_ = 0, shown_ns_ = 0;
  double first_done_ = 0, first_fraction_ = 0;  // where it stood when first heard of
  bool finished_ = false;
};

}  // namespace retort::host
