// Plugin configs against the JSON Schema subset of docs/abi.md §2: type, properties, required,
// enum, minimum, maximum, default, items, additionalProperties, description, x-retort.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/json/json.h"

namespace retort::json {

// The config with defaults filled in, keys in the schema's order (extra keys, where allowed,
// after them), compact. Both texts are JSON objects; an empty config text is {}, an empty schema
// text takes any object. Errors begin with the JSON pointer of the key ("/min: ..."; "" is the
// whole config, written "(config)"); unknown keys get the nearest known name.
// additionalProperties is false where absent, beside `properties`; a schema with neither takes
// any keys.
Result<std::string> ResolveConfig(std::string_view schema_json, std::string_view config_json);
Result<std::string> ResolveConfig(const Value& schema, const Value& config);

// The schema alone: unknown keywords, types or defaults that don't fit it are refused.
Status CheckSchema(std::string_view schema_json);

// JSON pointers of the config's string values whose schema says `x-retort: <mark>` ("file",
// "secret"), with their values; `config` is a resolved config.
struct MarkedValue {
  std::string pointer, value;
};
Result<std::vector<MarkedValue>> FindMarked(std::string_view schema_json,
                                            std::string_view config_json, std::string_view mark);
// The config with the values at those pointers replaced.
Result<std::string> ReplaceStrings(std::string_view config_json,
                                   const std::vector<MarkedValue>& replacements);

}  // namespace retort::json
