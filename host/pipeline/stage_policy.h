// What the losses of a grpo stage ask for, and whether the stage's keys fit them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/base/status.h"
#include "host/pipeline/config/config.h"
#include "host/session/session.h"

namespace retort::host {

struct PolicyWants {
  bool reference = false;  // log-probabilities of the reference: a loss or kl_coef looks at them
};
// INVALID_ARGUMENT: a reference that follows the policy and that nothing looks at; a loss over
// tokens beside that of cold_start.
Result<PolicyWants> WantsOfPolicy(Session& session, const StageConfig& stage);

}  // namespace retort::host
