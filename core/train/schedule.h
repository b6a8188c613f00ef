// Learning-rate schedules: a factor of the base rate per optimizer step, as transformers
// defines them (its names too). Pure: no state, so a resumed run needs only the step number.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/status.h"

namespace retort::train {

enum class ScheduleKind : uint8_t {
  kConstant,
  kConstantWithWarmup,
  kLinear,
  kCosine,
  kCosineWithRestarts,
  kCosineWithMinLr,
  kPolynomial,
  kInverseSqrt,
  kWsd,  // warm-up, stable, decay
};
enum class DecayType : uint8_t { kCosine, kLinear, kOneMinusSqrt };

// "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts",
// "cosine_with_min_lr", "polynomial", "inverse_sqrt", "wsd".
Result<ScheduleKind> ParseScheduleKind(std::string_view name);
// "cosine", "linear", "1-sqrt".
Result<DecayType> ParseDecayType(std::string_view name);

struct ScheduleOptions {
  ScheduleKind kind = ScheduleKind::kCosineWithMinLr;
  int64_t total_steps = 0;    // K, at least 1
  int64_t warmup_steps = -1;  // -1: ceil(K * warmup_ratio)
  double warmup_ratio = 0;
  double min_lr_ratio = 0.1;                  // of cosine_with_min_lr, polynomial and wsd
  int64_t num_cycles = 1;                     // of cosine_with_restarts
  double power = 1;                           // of polynomial
  int64_t decay_steps = -1;                   // wsd; -1: ceil(K / 10)
  DecayType decay_type = DecayType::kCosine;  // wsd
};

class Schedule {
 public:
  // Refuses counts and ratios out of range; names the option.
  static Result<Schedule> Make(const ScheduleOptions& options);

  // For the step before which `done` optimizer steps have been made: the first has done = 0,
  // and with warm-up a rate of 0, like transformers.
  double Factor(int64_t done) const;

  int64_t warmup_steps() const { return warmup_; }
  int64_t decay_steps() const { return decay_; }

 private:
  explicit Schedule(const ScheduleOptions& options);
  double WsdFactor(int64_t done) const;

  ScheduleOptions options_;
  int64_t warmup_ = 0, decay_ = 0;
};

}  // namespace retort::train
