// Prompts to samples on disk, for generate and eval: lines in order of (record, index) whatever
// order completions come in, so that a stopped file is a prefix of the finished one and the rest
// can be made later.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/base/status.h"
#include "core/data/record.h"
#include "host/pipeline/stage.h"
#include "host/pipeline/stage_models.h"

namespace retort::host {

struct SampleJob {
  const StageModel* model = nullptr;
  engine::Model* weights = nullptr;
  std::span<const data::Record> records = {};  // uids differ
  int64_t samples = 1;
  const DecodingOptions* decoding = nullptr;
  const ChatOptions* chat = nullptr;
  std::string prefix = {};
  const SamplingOptions* sampling = nullptr;
  uint64_t seed = 0;
  std::string path = {};  // the samples' file, appended to
  std::string unit = "samples";
};

// Fills the file; what is there already is checked against the job and kept. CANCELLED: stopped,
// the file is whole. Adds prompt_tokens, completion_tokens, prefill_seconds, decode_seconds,
// and kv_peak_bytes, the most that cached keys and values took.
Status WriteSamples(StageRun& run, const SampleJob& job);

}  // namespace retort::host
