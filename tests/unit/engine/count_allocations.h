// Counts the program's C++ allocations (LibTorch's and ours alike) between two points.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace retort::engine::test {

void StartCounting();
int64_t StopCounting();  // allocations since StartCounting

}  // namespace retort::engine::test
