// The policy that divergence is measured from.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "core/base/status.h"
#include "host/pipeline/stages/stage_trainer.h"

namespace retort::host {

class PolicyReference {
 public:
  // The base under the adapter that is trained; or a model of its own.
  static Result<PolicyReference> Open(StageRun& run, const StageModel& base, StageTrainer& trainer);

  engine::Model& weights() const { return *weights_; }
  int32_t adapter() const { return adapter_; }

 private:
  std::unique_ptr<engine::Model> owned_;
  engine::Model* weights_ = nullptr;
  int32_t adapter_ = -1;
};

}  // namespace retort::host
