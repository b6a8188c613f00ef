// Files that plugin configs name (keys whose schema says `x-retort: file`): relative to the
// pipeline file as written, absolute from here on, and part of what a stage is made from.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/base/status.h"
#include "host/pipeline/config/config.h"
#include "host/plugin/registry.h"

namespace retort::host {

// Rewrites every plugin config of the pipeline and notes the files. INVALID_ARGUMENT: a file is not
// there. Ids and configs that are wrong in themselves are left to whoever creates the plugin.
Status AnchorPluginFiles(const PluginRegistry& plugins, PipelineConfig* config);

}  // namespace retort::host
