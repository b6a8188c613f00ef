// Prompts answered by a generator plugin instead of a model: submit what it takes, poll, write
// every sample once, try failed requests again.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>

#include "core/base/status.h"
#include "core/data/record.h"
#include "host/pipeline/stage.h"

namespace retort::host {

// Fills `path` with the samples of the generate stage `run` is about; what is there already is
// kept. CANCELLED: stopped, the file is whole. Adds requests, retries, completion_tokens, errors.
Status WriteGeneratedSamples(StageRun& run, std::span<const data::Record> records,
                             const std::string& path);

}  // namespace retort::host
