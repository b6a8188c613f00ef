// What token and sequence losses share in their wrappers.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/base/status.h"
#include "retort/abi/draft/loss.h"

namespace retort::host {

// known_inputs: the bits that needs and optional may have.
Status CheckLossSpec(const retort_loss_spec* spec, uint64_t known_inputs);

}  // namespace retort::host
