// Counts the program's allocations, of whatever library and language, between two points.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace retort::engine::test {

void StartCounting();
int64_t StopCounting();  // allocations since StartCounting

}  // namespace retort::engine::test
