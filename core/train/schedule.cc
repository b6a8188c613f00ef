// The formulas are those of transformers.optimization; tests compare with its values.
// SPDX-License-Identifier: Apache-2.0
#include "core/train/schedule.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <utility>

namespace retort::train {
namespace {

constexpr std::array<std::pair<std::string_view, ScheduleKind>, 9> kKinds = {{
    {"constant", ScheduleKind::kConstant},
    {"constant_with_warmup", ScheduleKind::kConstantWithWarmup},
    {"linear", ScheduleKind::kLinear},
    {"cosine", ScheduleKind::kCosine},
    {"cosine_with_restarts", ScheduleKind::kCosineWithRestarts},
    {"cosine_with_min_lr", ScheduleKind::kCosineWithMinLr},
    {"polynomial", ScheduleKind::kPolynomial},
    {"inverse_sqrt", ScheduleKind::kInverseSqrt},
    {"wsd", ScheduleKind::kWsd},
}};
constexpr std::array<std::pair<std::string_view, DecayType>, 3> kDecays = {{
    {"cosine", DecayType::kCosine},
    {"linear", DecayType::kLinear},
    {"1-sqrt", DecayType::kOneMinusSqrt},
}};

template <class Table>
auto Lookup(const Table& table, std::string_view name, const char* what)
    -> Result<decltype(table[0].second)> {
  std::string known;
  for (const auto& [key, value] : table) {
    if (key == name) return value;
    known += (known.empty() ? "" : ", ") + std::string(key);
  }
  return InvalidArgument(std::string(what) + " \"" + std::string(name) +
                         "\" is unknown; it must be one of: " + known);
}

constexpr int64_t kInverseSqrtScale = 10000;  // without warm-up

double Cosine(double progress) { return 0.5 * (1.0 + std::cos(std::numbers::pi * progress)); }

// The smallest count of steps that is no less than the share of them.
int64_t ShareOf(int64_t steps, double ratio) {
  return static_cast<int64_t>(std::ceil(static_cast<double>(steps) * ratio));
}

std::string OutOfRangeText(const char* option, const std::string& value, const char* rule) {
  return std::string("schedule option ") + option + " is " + value + "; it must be " + rule;
}

}  // namespace

Result<ScheduleKind> ParseScheduleKind(std::string_view name) {
  return Lookup(kKinds, name, "schedule kind");
}

Result<DecayType> ParseDecayType(std::string_view name) {
  return Lookup(kDecays, name, "decay_type");
}

Result<Schedule> Schedule::Make(const ScheduleOptions& options) {
  const auto bad = [](const char* option, auto value, const char* rule) {
    return InvalidArgument(OutOfRangeText(option, std::to_string(value), rule));
  };
  if (options.total_steps < 1) return bad("total_steps", options.total_steps, "at least 1");
  if (options.warmup_steps < -1) return bad("warmup_steps", options.warmup_steps, "at least 0");
  if (!(options.warmup_ratio >= 0 && options.warmup_ratio <= 1)) {
    return bad("warmup_ratio", options.warmup_ratio, "between 0 and 1");
  }
  if (!(options.min_lr_ratio >= 0 && options.min_lr_ratio <= 1)) {
    return bad("min_lr_ratio", options.min_lr_ratio, "between 0 and 1");
  }
  if (options.num_cycles < 1) return bad("num_cycles", options.num_cycles, "at least 1");
  if (!(options.power > 0) || !std::isfinite(options.power)) {
    return bad("power", options.power, "above 0");
  }
  if (options.decay_steps < -1) return bad("decay_steps", options.decay_steps, "at least 0");
  Schedule schedule(options);
  if (options.kind == ScheduleKind::kWsd &&
      schedule.warmup_ > options.total_steps - schedule.decay_) {
    return InvalidArgument("schedule wsd: warmup_steps " + std::to_string(schedule.warmup_) +
                           " and decay_steps " + std::to_string(schedule.decay_) +
                           " exceed the run's " + std::to_string(options.total_steps) +
                           " steps; lower one of them");
  }
  return schedule;
}

Schedule::Schedule(const ScheduleOptions& options) : options_(options) {
  const int64_t total = options.total_steps;
  warmup_ = options.warmup_steps >= 0 ? options.warmup_steps : ShareOf(total, options.warmup_ratio);
  decay_ = options.decay_steps >= 0 ? options.decay_steps : ShareOf(total, 0.1);
}

double Schedule::WsdFactor(int64_t done) const {
  const double low = options_.min_lr_ratio;
  const int64_t decay_begin = options_.total_steps - decay_;
  if (done < warmup_) {
    return low + (1 - low) * static_cast<double>(done) / static_cast<double>(warmup_);
  }
  if (done < decay_begin) return 1;
  if (done >= options_.total_steps) return low;
  const double progress = static_cast<double>(done - decay_begin) / static_cast<double>(decay_);
  switch (options_.decay_type) {
    case DecayType::kCosine: return low + (1 - low) * Cosine(progress);
    case DecayType::kLinear: return low + (1 - low) * (1 - progress);
    case DecayType::kOneMinusSqrt: return low + (1 - low) * (1 - std::sqrt(progress));
  }
  return low;
}

double Schedule::Factor(int64_t done) const {
  if (options_.kind == ScheduleKind::kConstant) return 1;
  if (options_.kind == ScheduleKind::kWsd) return WsdFactor(done);
  if (done < warmup_) return static_cast<double>(done) / static_cast<double>(warmup_);
  const double span = static_cast<double>(std::max<int64_t>(1, options_.total_steps - warmup_));
  const double progress = static_cast<double>(done - warmup_) / span;
  switch (options_.kind) {
    case ScheduleKind::kLinear: return std::max(0.0, 1 - progress);
    case ScheduleKind::kCosine: return std::max(0.0, Cosine(progress));
    case ScheduleKind::kCosineWithMinLr: {
      const double low = options_.min_lr_ratio;
      return low + (1 - low) * Cosine(progress);
    }
    case ScheduleKind::kCosineWithRestarts: {
      if (progress >= 1) return 0;
      return Cosine(std::fmod(static_cast<double>(options_.num_cycles) * progress, 1.0));
    }
    case ScheduleKind::kPolynomial: {
      const double low = options_.min_lr_ratio;
      return low + (1 - low) * std::pow(std::max(0.0, 1 - progress), options_.power);
    }
    case ScheduleKind::kInverseSqrt: {
      const double scale = static_cast<double>(warmup_ > 0 ? warmup_ : kInverseSqrtScale);
      return 1 / std::sqrt((static_cast<double>(done - warmup_) + scale) / scale);
    }
    default: return 1;
  }
}

}  // namespace retort::train
