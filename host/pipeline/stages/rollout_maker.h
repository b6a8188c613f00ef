// Draws and scores the rounds of a grpo stage. Completions are a function of (weights, seed, step,
// position); verdicts need not be one: a round stays on disk until a checkpoint has its steps.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/base/status.h"
#include "core/data/record.h"
#include "core/data/sample.h"
#include "host/chain/reward_chain.h"
#include "host/pipeline/stage.h"
#include "host/pipeline/stage_models.h"
#include "host/pipeline/stages/kept_rollouts.h"
#include "host/pipeline/stages/rollouts.h"
#include "host/pipeline/stages/stage_trainer.h"

namespace retort::host {

class RolloutMaker {
 public:
  RolloutMaker(StageRun& run, const StageModel& model, StageTrainer& trainer,
               std::vector<data::Record> records);

  // Creates the reward chain.
  Status Init();
  // The next prompts_per_step groups, of prompts from `position` on: drawn and kept, or as they
  // were kept. CANCELLED: nothing happened.
  Result<Rollouts> Make(int64_t step, int64_t position);
  // A checkpoint has `step` optimizer steps: what was kept of the rounds before it goes.
  Status Forget(int64_t step) { return kept_.Forget(step); }
  // At the end of a stage: errors counted, and the chain's limits once more.
  Status Finish();

  int64_t n_prompts() const { return static_cast<int64_t>(records_.size()); }
  const RewardChain& chain() const { return chain_; }

 private:
  // Prompt number `position` of the endless shuffled sequence; a uid of its own each time.
  data::Record PromptAt(int64_t position) const;
  // Nothing: not kept, or spoiled, which is warned of.
  Result<std::optional<Rollouts>> Kept(int64_t step, int64_t position);
  Result<Rollouts> DrawAll(int64_t step, int64_t position);
  Status Draw(int64_t step, int64_t round, int64_t count, Rollouts* out);
  Result<RewardTable> Score(std::span<const data::Sample> group, int64_t step);
  void AddPenalty(Rollouts* out) const;

  StageRun& run_;
  const GrpoStage& config_;
  const StageModel& model_;
  StageTrainer& trainer_;
  std::vector<data::Record> records_;
  RewardChain chain_;
  KeptRollouts kept_;
  bool told_of_kept_ = false;
  mutable int64_t order_epoch_ = -1;
  mutable std::vector<size_t> order_;  // of that epoch
};

}  // namespace retort::host
