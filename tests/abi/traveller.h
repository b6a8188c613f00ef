// A plugin as another version of the SDK would have built it: every struct that it hands to the
// host is a copy of the size of version 1.0 that ends at a page nobody may touch, or 64 bytes
// larger with rubbish where the host knows no members.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "host/check/guarded.h"
#include "retort/abi/entry.h"

namespace retort::test {

using host::check::Growth;

// An entry table around a real plugin's. Static state: one at a time, until the next call. Copies
// live until the program ends, as tables live as long as instances.
const retort_entry* Travel(const retort_entry* inner, Growth growth);

}  // namespace retort::test
