// Samples of the C edge as the chains take them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/status.h"
#include "core/data/sample.h"
#include "retort/host.h"

namespace retort::host {

// Copies. INVALID_ARGUMENT names the sample and the member: texts that are not UTF-8, a record that
// is no JSON object, ids without a count; UNIMPLEMENTED: an unknown `finish`.
Result<std::vector<data::Sample>> ReadSamples(const retort_sample* samples, uint32_t stride,
                                              uint64_t n);

}  // namespace retort::host
