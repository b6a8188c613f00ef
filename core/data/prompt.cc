// SPDX-License-Identifier: Apache-2.0
#include "core/data/prompt.h"

#include <utility>

namespace retort::data {
namespace {

Result<Prompt> FromMessages(std::vector<text::Message> messages, const PromptOptions& options,
                            std::string_view where) {
  if (options.chat == nullptr) {
    return FailedPrecondition(std::string(where) +
                              ": a conversation needs a chat format, and the model's template is "
                              "none of the built-in ones (or chat is false): set chat.format");
  }
  if (!options.system.empty() && messages[0].role != "system") {
    messages.insert(messages.begin(), {"system", options.system, ""});
  }
  Prompt prompt;
  auto rendered = options.chat->Render(messages, true);
  if (!rendered.ok()) return rendered.status().WithContext(where);
  prompt.text = std::move(*rendered);
  prompt.messages = std::move(messages);
  RETORT_ASSIGN_OR_RETURN(prompt.ids, EncodePrompt(prompt.text, options, false));
  return prompt;
}

}  // namespace

Result<std::vector<int32_t>> EncodePrompt(std::string_view text, const PromptOptions& options,
                                          bool verbatim) {
  return options.tokenizer->Encode(text, {.add_special_tokens = verbatim});
}

Result<Prompt> BuildPrompt(const Record& record, const PromptOptions& options) {
  if (record.messages.empty() && !record.prompt) {
    return InvalidArgument(record.where +
                           ": the record has no prompt (only text): map a column to prompt");
  }
  std::vector<text::Message> messages = record.messages;
  if (messages.empty() && options.chat != nullptr) messages = {{"user", *record.prompt, ""}};
  if (!messages.empty()) {
    if (messages.back().role == "assistant") messages.pop_back();
    if (messages.empty()) {
      return InvalidArgument(record.where + ": nothing stands before the assistant's answer");
    }
    return FromMessages(std::move(messages), options, record.where);
  }
  Prompt prompt;
  prompt.text = *record.prompt;
  RETORT_ASSIGN_OR_RETURN(prompt.ids, EncodePrompt(prompt.text, options, true));
  if (prompt.ids.empty()) {
    return InvalidArgument(record.where + ": the prompt is empty");
  }
  return prompt;
}

}  // namespace retort::data
