// Prompts to samples on disk, for generate and eval: lines in order of (record, index) whatever
// order completions come in, so that a stopped file is a prefix of the finished one and the rest
// can be made later.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/base/status.h"
#include "host/pipeline/sampling.h"

namespace retort::host {

// Fills the file at `path`; what is there already is checked against the job and kept. CANCELLED:
// stopped, the file is whole. Adds prompt_tokens, completion_tokens, prefill_seconds,
// decode_seconds, and kv_peak_bytes, the most that cached keys and values took.
Status WriteSamples(StageRun& run, const SampleJob& job, const std::string& path);

}  // namespace retort::host
