// Reward entries that name a model, as the chains of host/chain read them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/base/status.h"
#include "core/json/json.h"
#include "host/pipeline/config/config.h"

namespace retort::host {

// The chain's entries; of models: where each lies, and how it reads texts and is kept.
// FAILED_PRECONDITION: a stage that gives one has not finished. With run_path "", for a plan, such
// a model stands there by its name.
Result<json::Document> ChainEntriesOf(const ChainConfig& chain, const PipelineConfig& config,
                                      const std::string& run_path);

}  // namespace retort::host
