// The key `lora` of stages that train: what it may hold, what it means, and what it changes
// elsewhere. SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/graph/lora.h"
#include "host/pipeline/config/schema.h"
#include "host/pipeline/config/tree.h"

namespace retort::host {

KeySpec LoraKey();

// Of a tree that Validate has accepted.
graph::LoraSpec ReadLora(const Node& node);

// Before defaults are filled in: stages with `lora` and no learning rate get an adapter's.
void FillLoraDefaults(Node& root);

}  // namespace retort::host
