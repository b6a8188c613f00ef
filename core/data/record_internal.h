// The steps of reading a record, each in its own file. Internal to core/data.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/data/record.h"

namespace retort::data {

// ---- record_map.cc: the `map` option

// Fails if `text`, a value of `map`, is a template with broken braces.
Status CheckTemplate(std::string_view key, std::string_view text);
// The columns after `map`: mapped ones replace columns of their name and come last.
Result<std::vector<Column>> MapColumns(const json::Value& object, const RecordOptions& options,
                                       std::string_view where);

// ---- record_formats.cc: the `format` option

// Fills text, prompt, completion, messages, generations from the columns; adds standard columns.
Status ReadFormat(std::string_view format, std::string_view where, Record* record);
bool IsRecordFormat(std::string_view format);

std::string JsonString(std::string_view text);  // quoted and escaped

}  // namespace retort::data
