// The keys of a grpo stage, and of its cold_start.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "host/pipeline/config/schema.h"

namespace retort::host {

const ObjectSpec& GrpoSpec();
const ObjectSpec& ColdStartSpec();

}  // namespace retort::host
