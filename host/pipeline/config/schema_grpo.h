// The keys of a grpo stage.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "host/pipeline/config/schema.h"

namespace retort::host {

const ObjectSpec& GrpoSpec();

}  // namespace retort::host
