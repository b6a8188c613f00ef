// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stages/eval_metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace retort::host {
namespace {

constexpr double kZ = 1.959963984540054;  // 97.5% point of the normal distribution
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

}  // namespace

Estimate Proportion(int64_t successes, int64_t n) {
  if (n <= 0) return {.value = kNone, .low = kNone, .high = kNone};
  const auto count = static_cast<double>(n);
  const double p = static_cast<double>(successes) / count;
  const double scale = 1 + kZ * kZ / count;
  const double center = (p + kZ * kZ / (2 * count)) / scale;
  const double half = kZ / scale * std::sqrt(p * (1 - p) / count + kZ * kZ / (4 * count * count));
  // At p = 0 and p = 1 the formula gives these ends exactly, up to rounding.
  return {.value = p,
          .low = successes == 0 ? 0 : std::max(0.0, center - half),
          .high = successes == n ? 1 : std::min(1.0, center + half),
          .n = n};
}

Estimate Mean(std::span<const double> values) {
  const auto n = static_cast<int64_t>(values.size());
  if (n == 0) return {.value = kNone, .low = kNone, .high = kNone};
  const auto is_binary = [](double v) { return v == 0 || v == 1; };
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  if (std::all_of(values.begin(), values.end(), is_binary)) {
    return Proportion(static_cast<int64_t>(sum), n);
  }
  const double mean = sum / static_cast<double>(n);
  double squares = 0;
  for (const double v : values) squares += (v - mean) * (v - mean);
  const double variance = n > 1 ? squares / static_cast<double>(n - 1) : kNone;
  const double half = kZ * std::sqrt(variance / static_cast<double>(n));
  return {.value = mean, .low = mean - half, .high = mean + half, .n = n};
}

Estimate Ratio(std::span<const double> numerators, std::span<const double> denominators) {
  const auto n = static_cast<int64_t>(numerators.size());
  const double total = std::accumulate(denominators.begin(), denominators.end(), 0.0);
  if (n == 0 || total == 0) return {.value = kNone, .low = kNone, .high = kNone, .n = n};
  const double ratio = std::accumulate(numerators.begin(), numerators.end(), 0.0) / total;
  double squares = 0;
  for (size_t i = 0; i < numerators.size(); ++i) {
    const double residual = numerators[i] - ratio * denominators[i];
    squares += residual * residual;
  }
  const auto count = static_cast<double>(n);
  const double variance = n > 1 ? squares * count / (count - 1) : kNone;
  const double half = kZ * std::sqrt(variance) / total;
  return {.value = ratio, .low = ratio - half, .high = ratio + half, .n = n};
}

}  // namespace retort::host
