// Prompts to completions of one model, in memory: what stages that sample share.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/data/prompt.h"
#include "core/data/record.h"
#include "core/data/sample.h"
#include "core/engine/engine.h"
#include "host/pipeline/stage.h"
#include "host/pipeline/stage_models.h"

namespace retort::host {

struct SampleJob {
  const StageModel* model = nullptr;
  engine::Model* weights = nullptr;
  int32_t adapter = -1;                        // of the weights' graph
  std::span<const data::Record> records = {};  // uids differ
  int64_t samples = 1;
  const DecodingOptions* decoding = nullptr;
  const ChatOptions* chat = nullptr;
  std::string prefix = {};
  const SamplingOptions* sampling = nullptr;
  uint64_t seed = 0;
  std::string unit = "samples";
};

struct PreparedPrompts {
  std::vector<data::Prompt> prompts;  // of the job's records
  std::vector<int32_t> prefix;
};

// `model`: whose stop tokens end a sample.
engine::SamplingParams SamplingParamsOf(const SamplingOptions& sampling, const OpenedModel& model,
                                        uint64_t seed);

// FAILED_PRECONDITION names the record that has no prompt.
Result<PreparedPrompts> PreparePrompts(const SampleJob& job);

// Of records `first` and on.
std::vector<engine::GenerateRequest> MakeRequests(const SampleJob& job,
                                                  const PreparedPrompts& prepared, size_t first);

data::Sample MakeSample(const SampleJob& job, const PreparedPrompts& prepared, size_t record,
                        const engine::Completion& completion);

// The engine's options of a job, without callbacks.
Result<engine::GenerateOptions> OptionsOf(const SampleJob& job);

// Adds prompt_tokens, completion_tokens, prefill_seconds, decode_seconds and kv_peak_bytes.
void AddStats(const engine::GenerateStats& stats, StageNumbers* numbers);

// All completions in order of (record, index). `on_record` is called from this thread when a
// record has its last one, with the record's number and its samples, which stay where they are.
// CANCELLED when the run is stopped.
Result<std::vector<data::Sample>> DrawSamples(
    StageRun& run, const SampleJob& job,
    const std::function<void(size_t record, std::span<const data::Sample> samples)>& on_record);

}  // namespace retort::host
