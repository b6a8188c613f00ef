// PPO's view of rollouts: a reward for every token, and from these and the value head's values the
// advantages and returns of tokens (generalised advantage estimation).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/train/advantages.h"
#include "host/pipeline/stages/policy_batches.h"
#include "host/pipeline/stages/rollouts.h"

namespace retort::host {

struct TokenAdvantageOptions {
  train::Gae gae;
  double kl_coef = 0;           // of (old - reference), taken off each token's reward
  bool whiten_rewards = false;  // rewards of tokens over the round, their mean kept
};

// Fills values->advantage (whitened over all trained tokens) and values->returns from
// values->old_value and, where kl_coef isn't 0, old_logp and ref_logp. A sample's total is the
// reward of its last token; forced tokens have no part. Samples without an advantage (NaN) are left
// out; the others' becomes the mean over their tokens.
void EstimateAdvantages(const TokenAdvantageOptions& options, Rollouts* rollouts,
                        TokenValues* values);

}  // namespace retort::host
