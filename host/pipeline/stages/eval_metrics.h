// Evaluation numbers with 95% intervals: what a table shows, from what was measured. Unmeasured
// samples are not among the values that come in here.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace retort::host {

struct Estimate {
  double value = 0, low = 0, high = 0;  // NaN if there is nothing to estimate from
  int64_t n = 0;                        // of what it is a mean: prompts, samples, records
};

// A share of successes; the interval is Wilson's score interval.
Estimate Proportion(int64_t successes, int64_t n);
// A mean; the interval is 1.96 standard errors (sample deviation). Values that are all 0 or 1 are
// a proportion.
Estimate Mean(std::span<const double> values);
// Sum of numerators over sum of denominators, (log-likelihood, tokens) of independent records say;
// the interval from the residuals' deviation (Cochran, "Sampling Techniques", 6.3).
Estimate Ratio(std::span<const double> numerators, std::span<const double> denominators);

}  // namespace retort::host
