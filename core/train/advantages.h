// Advantages of sampled completions: how much better than expected each one was. Statistics are
// in f64. Samples of a prompt (a group) are adjacent; a reward that is NaN was not measured: its
// sample has no part in any mean, and no advantage.
// Sources: GRPO arXiv 2402.03300 (group), Dr. GRPO arXiv 2503.20783 (none), RLOO arXiv 2402.14740,
// REINFORCE++ arXiv 2501.03262, GDPO arXiv 2601.05242, GAE arXiv 1506.02438.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/base/status.h"

namespace retort::train {

enum class Advantage : uint8_t {
  kGroup,    // (r - mean) / (s + eps) of the group; a group of one: 0
  kBatch,    // (r - the group's mean) / (the batch's s + eps)
  kNone,     // r - the group's mean
  kRloo,     // r - the mean of the group's others
  kLooStd,   // that, over the others' s + eps where it is above 0
  kGdpo,     // each reward normalised in its group, summed by weight, then over the batch
  kBaseline  // r - the group's mean, whitened over the batch (REINFORCE++ baseline)
};
// "group", "batch", "none", "rloo", "loo_std", "gdpo", "reinforce_baseline".
Result<Advantage> ParseAdvantage(std::string_view name);

struct AdvantageOptions {
  Advantage kind = Advantage::kGroup;
  double eps = 1e-4;
  bool population = false;  // deviations over n instead of n - 1
};

// The rewards of a batch.
struct Rewards {
  int64_t group_size = 1;
  std::span<const double> total;                 // [n], by weight over the measured ones
  std::vector<std::span<const double>> columns;  // [n] each, of gdpo
  std::vector<double> weights;                   // of the columns
};

// [n]; NaN where nothing was measured. n is a multiple of group_size.
std::vector<double> Advantages(const Rewards& rewards, const AdvantageOptions& options);

// Generalised advantage estimation over one sequence, backwards from its end:
//   delta_t = r_t + gamma V_{t+1} - V_t,  A_t = delta_t + gamma lambda A_{t+1},  V, A beyond it 0.
// Tokens with mask 0 are passed over: the next one's value and advantage reach the one before.
struct Gae {
  double gamma = 1, lambda = 0.95;
  // advantages[t]; returns are advantages + values. Masked tokens get 0.
  std::vector<double> Run(std::span<const double> rewards, std::span<const double> values,
                          std::span<const uint8_t> mask) const;
};

// (x - mean) * rsqrt(variance + 1e-8) over the entries with a mask, Bessel's variance; with
// `keep_mean` the mean stays.
void Whiten(std::span<double> x, std::span<const uint8_t> mask, bool keep_mean = false);

}  // namespace retort::train
