// Events of a run as the C edge tells them: typed members and the same as JSON.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "host/pipeline/pipeline.h"
#include "retort/host.h"

namespace retort::host {

// For RunOptions.on_event: hands events to options.event, progress at most ten times a second and
// per stage its last. Copies what it needs of `config`.
std::function<void(const RunEvent&)> RunEventForwarder(const PipelineConfig& config,
                                                       const retort_run_options& options);

}  // namespace retort::host
