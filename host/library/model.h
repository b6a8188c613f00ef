// What stands behind a retort_model and the chains that count tokens with it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "core/base/status.h"
#include "core/engine/engine.h"
#include "host/library/context.h"

namespace retort::host {

struct ModelObject {
  OpenedModel* opened = nullptr;           // the session's
  std::unique_ptr<engine::Model> weights;  // once needed
  bool chose_chat_format = false;
  model::Storage storage = model::Storage::kAuto;
};

// Reads the weights if they are not there yet.
Result<engine::Model*> WeightsOf(ContextState& state, ModelObject& model);

Status GenerateWith(ContextState& state, ModelObject& model, const retort_generate_args* args);
Status LogprobWith(ContextState& state, ModelObject& model, const retort_logprob_args* args);

}  // namespace retort::host

// The state first: it goes last.
struct retort_model {
  std::shared_ptr<retort::host::ContextState> state;
  std::shared_ptr<retort::host::ModelObject> object;
};
