// Samples: one completion of one prompt, with the token ids that were sampled. The unit that
// flows from generate through filters to training; one line of samples.jsonl each.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/data/record.h"
#include "core/json/json.h"
#include "core/text/chat.h"

namespace retort::data {

struct RewardScore {
  std::string name;
  std::optional<double> value;  // nothing: not measured (written as null)
};

struct Sample {
  uint64_t uid = 0, record_uid = 0;
  int32_t index = 0;
  std::string prompt;      // rendered, as the model saw it
  std::string completion;  // with the forced prefix, without the stop token or stop string
  std::vector<int32_t> prompt_ids;
  std::vector<int32_t> completion_ids;  // with the prefix and the stop token
  std::vector<float> logp;              // of completion_ids; may be empty
  std::string finish = "stop";          // stop, length, cancelled, error
  std::string model;
  uint64_t seed = 0;
  int32_t n_prefix = 0;   // leading completion_ids that were forced
  std::string tokenizer;  // Tokenizer::hash() of the ids; "": unknown, ids unused by SFT
  std::vector<text::Message> messages;  // of the prompt, before rendering; empty: verbatim prompt
  std::string record = "{}";            // the record's columns, a JSON object
  std::vector<RewardScore> rewards;
  std::vector<Column> extra;  // keys of the line that are not retort's: kept
};

// uid of sample `index` of a record.
uint64_t SampleUid(uint64_t record_uid, int32_t index);

std::string SampleToJson(const Sample& sample);  // one line, no newline
// `where` is "file:line". Only prompt and completion are required; a missing uid is hashed from
// the line, a missing record_uid is the uid, a missing record is made of the unknown keys.
Result<Sample> SampleFromJson(std::string_view line, std::string_view where);

// True for a line that SampleToJson could have written (has record_uid and completion).
bool IsSampleLine(const json::Value& object);

// A whole file; any bad line is an error that names file:line.
Result<std::vector<Sample>> ReadSamples(const std::string& path);

}  // namespace retort::data
