// SPDX-License-Identifier: Apache-2.0
#include "core/text/chat.h"

#include "core/json/json.h"
#include "core/text/chat_formats.h"

namespace retort::text {

std::vector<std::string> ChatFormat::Names() {
  std::vector<std::string> names;
  for (const ChatSpec& spec : ChatSpecs()) names.emplace_back(spec.name);
  return names;
}

Result<ChatFormat> ChatFormat::Create(std::string_view format, std::string_view template_text,
                                      std::string_view bos_token, std::string_view eos_token) {
  const bool by_template = format.empty() || format == "auto";
  std::string known;
  for (const std::string& name : Names()) known += (known.empty() ? "" : ", ") + name;
  if (by_template && template_text.empty()) {
    return FailedPrecondition(
        "the model has no chat template; name a built-in one as chat.format: " + known);
  }
  const ChatSpec* spec = by_template ? SpecOfTemplate(template_text) : FindChatSpec(format);
  if (spec == nullptr && by_template) {
    return Unimplemented("the model's chat template (hash " + TemplateHash(template_text) +
                         ") is none of the built-in ones; if one of them fits, name it as "
                         "chat.format: " +
                         known);
  }
  if (spec == nullptr) {
    const auto nearest = json::Nearest(format, Names());
    return InvalidArgument("chat.format '" + std::string(format) + "' is unknown" +
                           (nearest ? "; did you mean '" + *nearest + "'?" : "") +
                           " (known: auto, " + known + ")");
  }
  ChatFormat result;
  result.name_ = spec->name;
  result.bos_ = bos_token;
  result.eos_ = eos_token;
  result.turn_end_ = spec->turn_end;
  return result;
}

Result<std::vector<Segment>> ChatFormat::Segments(std::span<const Message> messages,
                                                  bool add_generation_prompt) const {
  return RenderChat(*FindChatSpec(name_), {bos_, eos_}, messages, add_generation_prompt);
}

Result<std::string> ChatFormat::Render(std::span<const Message> messages,
                                       bool add_generation_prompt) const {
  RETORT_ASSIGN_OR_RETURN(const auto segments, Segments(messages, add_generation_prompt));
  std::string text;
  for (const Segment& segment : segments) text += segment.text;
  return text;
}

std::string ChatFormat::Completion(const Message& assistant) const {
  return RenderCompletion(*FindChatSpec(name_), assistant);
}

}  // namespace retort::text
