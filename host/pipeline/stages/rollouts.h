// A round of a grpo stage: groups of completions of some prompts, with their rewards and
// advantages.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "core/data/sample.h"
#include "host/chain/reward_chain.h"

namespace retort::host {

// Completions of one prompt are adjacent.
struct Rollouts {
  std::vector<data::Sample> samples;
  std::vector<RewardTable> rewards;            // of each group
  std::vector<double> total;                   // [n] what advantages are made of; NaN: not measured
  std::vector<double> advantage;               // [n]; NaN: not trained on
  int64_t position = 0;                        // prompts used up, over all epochs
  int64_t drawn_groups = 0, equal_groups = 0;  // of all that were sampled: all rewards equal
  double generate_seconds = 0, reward_seconds = 0;
};

}  // namespace retort::host
