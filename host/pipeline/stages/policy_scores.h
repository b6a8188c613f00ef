// What models say of completions before a policy loss sees them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/base/status.h"
#include "core/engine/engine.h"
#include "host/pipeline/stage.h"
#include "host/pipeline/stages/policy_batches.h"
#include "host/pipeline/stages/policy_reference.h"
#include "host/pipeline/stages/rollouts.h"
#include "host/pipeline/stages/stage_trainer.h"

namespace retort::host {

// Mean over the completions' tokens that are trained on of exp(d) - 1 - d, d their
// log-probability in `now` less that in `old` (Schulman's k3). `samples` name the rows of `now`;
// of none: 0.
double MeanDivergence(const Rollouts& rollouts, std::span<const std::vector<float>> old,
                      std::span<const size_t> samples, std::span<const std::vector<float>> now);

class PolicyScores {
 public:
  // Everything outlives the object; `reference` may be NULL.
  PolicyScores(StageRun& run, StageTrainer& trainer, const PolicyReference* reference)
      : run_(run), config_(run.stage->grpo), trainer_(trainer), reference_(reference) {}

  // Of the policy as it drew the completions, and of the reference: what the stage's losses and
  // rewards look at.
  Result<TokenValues> Measure(const Rollouts& rollouts) const;
  // How far the policy is by now from the one that drew the completions of these groups.
  Result<double> Divergence(const Rollouts& rollouts, const TokenValues& values,
                            std::span<const size_t> groups) const;

 private:
  StageRun& run_;
  const GrpoStage& config_;
  StageTrainer& trainer_;
  const PolicyReference* reference_;
};

}  // namespace retort::host
