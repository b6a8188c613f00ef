// run.json: the resolved config and everything around it that a result may depend on.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/base/status.h"
#include "host/pipeline/config/config.h"
#include "host/pipeline/run_folder.h"
#include "host/session/session.h"

namespace retort::host {

// `report_json`: "" while the run has not ended. `with_engine`: the engine was opened, so that
// asking it for its versions costs nothing.
Status WriteRunInfo(Session& session, const PipelineConfig& config, const RunFolder& folder,
                    const std::string& report_json, bool with_engine);

}  // namespace retort::host
