// What the host offers to plugins: the retort_host that every create gets.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "retort/abi/host.h"

namespace retort::host {

// Static, the same for all registries.
const retort_host* PluginHost();

}  // namespace retort::host
