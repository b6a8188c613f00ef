// The policy that divergence is measured from.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/base/status.h"
#include "host/pipeline/stages/stage_trainer.h"

namespace retort::host {

// reference = alpha * policy + (1 - alpha) * reference, param by param, as TRL's
// SyncRefModelCallback does. A param of the policy alone (a value head) has no part in it.
// INVALID_ARGUMENT: a param of the reference that the policy lacks, has in another shape, or that
// is not f32 in both.
Status MixIntoReference(std::span<const engine::StateTensor> policy,
                        std::span<const engine::StateTensor> reference, double alpha);

class PolicyReference {
 public:
  // The base under the adapter that is trained; or a model of its own, f32 where it follows the
  // policy (sync_ref_model).
  static Result<PolicyReference> Open(StageRun& run, const StageModel& base, StageTrainer& trainer);

  engine::Model& weights() const { return *weights_; }
  int32_t adapter() const { return adapter_; }
  // Its weights under names for a checkpoint; live.
  std::vector<engine::StateTensor> State() const;

 private:
  std::unique_ptr<engine::Model> owned_;
  engine::Model* weights_ = nullptr;
  int32_t adapter_ = -1;
};

}  // namespace retort::host
