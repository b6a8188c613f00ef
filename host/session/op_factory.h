// Op plugins for graph nodes: what connects core's graph builder with the registry.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/graph/custom_op.h"
#include "host/plugin/registry.h"

namespace retort::host {

// The registry outlives the factory and every graph made with it.
graph::OpFactory MakeOpFactory(const PluginRegistry& plugins);

}  // namespace retort::host
