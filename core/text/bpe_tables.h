// A tokenizer whose vocabulary and merges are lists already: writing and parsing megabytes of
// tokenizer.json would take most of a short run's time.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include "core/base/status.h"
#include "core/text/tokenizer.h"

namespace retort::text {

// `model.vocab` and `model.merges` of a tokenizer.json.
struct BpeTables {
  std::span<const std::string_view> tokens;  // by id; a view without data: no token has this id
  std::span<const std::pair<std::string_view, std::string_view>> merges;  // by rank
};

// Tokenizer::FromJson, where `tokenizer_json` has everything but the tables. Equal in all it does,
// its hash among it, to what FromJson makes of the whole text, in which the vocabulary stands by id
// and the tables end the model. The tables must be UTF-8; they are copied.
Result<std::unique_ptr<Tokenizer>> TokenizerFromTables(std::string_view tokenizer_json,
                                                       const BpeTables& tables,
                                                       std::string_view tokenizer_config_json,
                                                       std::string_view what);

}  // namespace retort::text
