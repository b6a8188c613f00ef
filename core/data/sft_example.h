// Training examples: token ids and which of them are trained. Made of records or samples.
// A document's spans are encoded apart and joined, as generation does (prompt, then completion).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/data/prompt.h"
#include "core/data/record.h"
#include "core/data/sample.h"

namespace retort::data {

enum class TrainOn {
  kCompletion,  // the last assistant turn (or the completion); a `text` record: everything
  kAssistant,   // every assistant turn
  kAll,         // every token
};
enum class Truncation { kDrop, kKeepStart, kError };

Result<TrainOn> ParseTrainOn(std::string_view name);        // completion, assistant, all
Result<Truncation> ParseTruncation(std::string_view name);  // drop, keep_start, error

struct SftOptions {
  PromptOptions prompt = {};
  TrainOn train_on = TrainOn::kCompletion;
  int64_t max_length = 4096;  // tokens
  Truncation truncation = Truncation::kDrop;
};

struct SftExample {
  uint64_t uid = 0;
  std::vector<int32_t> ids;
  std::vector<uint8_t> trained;  // per id: 1 if its prediction counts
  float weight = 1;
};

struct SftBuild {
  std::vector<SftExample> examples;  // a record with generations gives one per finished one
  int64_t too_long = 0, no_trained_token = 0;
  int64_t unfinished = 0;  // samples cancelled or failed, generations cut by length
};

// Appends to `build`. A turn-end (or eos) token follows each trained completion and is trained.
Status AddRecord(const Record& record, const SftOptions& options, SftBuild* build);
// Uses the sample's ids if its tokenizer hash is ours and it ended with a stop token or by
// length; else its messages (or prompt) and completion as text.
Status AddSample(const Sample& sample, const SftOptions& options, SftBuild* build);

}  // namespace retort::data
