// Prompts for the engine and samples from it: what the command generate and the host API share.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/data/record.h"
#include "core/data/sample.h"
#include "core/engine/engine.h"
#include "host/commands/command.h"

namespace retort::host {

// What all requests of a call share.
struct GenerateSettings {
  const OpenedModel* model = nullptr;
  engine::SamplingParams sampling;
  std::vector<int32_t> prefix;
  std::string system;
  int32_t samples = 1, max_batch = 16, prefill_chunk = 512;
  int64_t kv_memory = 0;
  DType kv_dtype = DType::kF32;
  bool chat = false;
};

// Options of the engine for them; the caller adds its callbacks.
engine::GenerateOptions EngineOptionsOf(const GenerateSettings& settings);

// Of arguments that passed CheckArgs(SamplingArgs()). INVALID_ARGUMENT: the options contradict each
// other; FAILED_PRECONDITION: the model lacks a tokenizer, or a chat format that they ask for.
Result<GenerateSettings> ReadGenerateSettings(const Args& args, const OpenedModel& model);

// One prompt: its request, and what its sample lines say beside the completion.
struct GeneratePrompt {
  engine::GenerateRequest request;
  data::Sample sample;
};
Result<GeneratePrompt> MakePrompt(const data::Record& record, const GenerateSettings& settings);

// The sample that a completion of the prompt is.
data::Sample SampleOf(const GeneratePrompt& prompt, const engine::Completion& done);

}  // namespace retort::host
