// Lines of JSON in and out of the direct commands: what a command doesn't write it passes on.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/data/sample.h"
#include "core/json/json.h"
#include "core/text/tokenizer.h"
#include "host/commands/command.h"

namespace retort::host {

// A line as an object; errors begin with `where`.
Result<json::Document> ParseLine(std::string_view line, std::string_view where);

// The members of `object` but those named, into the open object.
void CopyFields(const json::Value& object, std::initializer_list<std::string_view> without,
                json::Writer& out);

// An array of token ids; errors begin with `where`.
Result<std::vector<int32_t>> ReadIds(const json::Value& value, std::string_view where);
void WriteIds(const std::vector<int32_t>& ids, json::Writer& out);

// A sample line, or a record as a sample: its completion (or answer turn, or text) judged beside
// its prompt, with the whole record as `record`.
Result<data::Sample> SampleFromLine(std::string_view line, std::string_view where);

// "ID", "ID:{config}" or a whole entry "{...}" per item, as the JSON array that chains read. The
// error is the caller's mistake.
Result<json::Document> ChainEntries(const std::vector<std::string>& items, std::string_view what);

// Making a chain fails by the caller's mistake (a key, an unknown plugin, a config) or another.
Outcome ChainFailure(const Status& status);

// The model named as `tokenizer`, opened; NULL if none is named.
Result<const text::Tokenizer*> OpenTokenizer(const CommandCall& call);

// The tokenizer of a model that must have one.
Result<const text::Tokenizer*> TokenizerOf(const OpenedModel& model);

// The weights of a model in the storage named as `storage` (default: auto). What could not be kept
// as asked for is a warning.
Result<std::unique_ptr<engine::Model>> LoadWeights(const CommandCall& call,
                                                   const OpenedModel& model);
// Usage error if `storage` names none.
Outcome CheckStorage(const CommandCall& call);

// Chat format of a model that is needed; usage error if the caller chose it.
Outcome NeedChat(const CommandCall& call, const OpenedModel& model);

Status Interrupted();

}  // namespace retort::host
