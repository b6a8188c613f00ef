// The adapter that a stage trains.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/base/status.h"
#include "core/graph/lora.h"
#include "host/session/session.h"

namespace retort::host {

// A fresh adapter as `lora` says; or, if the model has one, that one, to be trained further: `lora`
// must then say the same of ranks, scales and modules. INVALID_ARGUMENT names what is wrong.
Result<AdapterUse> TrainedAdapter(Session& session, const OpenedModel& model,
                                  const graph::LoraSpec& lora);

// Whether a stage without `lora` can train the model: not one with an adapter.
Status CheckTrainedWhole(const OpenedModel& model);

}  // namespace retort::host
