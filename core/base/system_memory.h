// How much memory this process may use.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace retort {

// Bytes: the smallest of the machine's memory and the limits of the process's control groups (v1
// and v2); 0: unknown. Not what happens to be free, so that a run that is repeated decides alike.
int64_t MemoryAllowed();

// The most memory that was resident at once since the process began (VmHWM); 0: unknown.
int64_t PeakResidentBytes();

}  // namespace retort
