// Rollouts of a grpo stage: groups of completions of some prompts, with their rewards and
// advantages. A function of (weights, seed, step, position): made anew after a kill they are the
// same, so that no buffer of them needs to be kept.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/data/record.h"
#include "core/data/sample.h"
#include "host/chain/reward_chain.h"
#include "host/pipeline/sampling.h"
#include "host/pipeline/stages/stage_trainer.h"

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

class RolloutMaker {
 public:
  RolloutMaker(StageRun& run, const StageModel& model, StageTrainer& trainer,
               std::vector<data::Record> records);

  // Creates the reward chain.
  Status Init();
  // The next prompts_per_step groups, of prompts from `position` on. CANCELLED: nothing happened.
  Result<Rollouts> Make(int64_t step, int64_t position);
  // At the end of a stage: errors counted, and the chain's limits once more.
  Status Finish();

  int64_t n_prompts() const { return static_cast<int64_t>(records_.size()); }
  const RewardChain& chain() const { return chain_; }

 private:
  // Prompt number `position` of the endless shuffled sequence; a uid of its own each time.
  data::Record PromptAt(int64_t position) const;
  Status Draw(int64_t step, int64_t round, int64_t count, Rollouts* out);
  Result<RewardTable> Score(std::span<const data::Sample> group, int64_t step);
  void AddPenalty(Rollouts* out) const;

  StageRun& run_;
  const GrpoStage& config_;
  const StageModel& model_;
  StageTrainer& trainer_;
  std::vector<data::Record> records_;
  RewardChain chain_;
  mutable int64_t order_epoch_ = -1;
  mutable std::vector<size_t> order_;  // of that epoch
};

}  // namespace retort::host
