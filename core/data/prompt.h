// From a record to the prompt that a model sees: the one place that generation, log-likelihoods
// and training share, so that they agree on every byte and id.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/data/record.h"
#include "core/text/chat.h"
#include "core/text/tokenizer.h"

namespace retort::data {

struct PromptOptions {
  const text::Tokenizer* tokenizer = nullptr;  // never NULL
  const text::ChatFormat* chat = nullptr;      // NULL: prompts are verbatim text
  std::string system = {};                     // chat.system: put first unless the record has one
};

struct Prompt {
  std::string text;                     // with the generation prompt
  std::vector<text::Message> messages;  // empty: verbatim
  std::vector<int32_t> ids;
};

// The prompt of a record: `messages` without the trailing assistant turn, or `prompt` (a user
// message if there is a chat format). A record of kind `text` has none: an error.
Result<Prompt> BuildPrompt(const Record& record, const PromptOptions& options);

// Ids of an already rendered prompt: special tokens of the post-processor only if it is verbatim.
Result<std::vector<int32_t>> EncodePrompt(std::string_view text, const PromptOptions& options,
                                          bool verbatim);

}  // namespace retort::data
