// The built-in chat formats and how each writes a turn. Internal to core/text.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/text/chat.h"

namespace retort::text {

enum class ChatStyle { kChatMl, kLlama3, kDeepseek, kGemma, kPhi3 };

struct ChatSpec {
  std::string_view name;
  ChatStyle style;
  std::string_view turn_end;
  std::string_view default_system = {};  // kChatMl: written if the first message is no system
  bool thinks = false;                   // reasoning goes into <think> … </think>
  bool skips_empty_system = false;       // kPhi3
};

std::span<const ChatSpec> ChatSpecs();
const ChatSpec* FindChatSpec(std::string_view name);
// By the hash of a template's text (line ends and trailing newlines normalised).
const ChatSpec* SpecOfTemplate(std::string_view template_text);
std::string TemplateHash(std::string_view template_text);

struct ChatTokens {
  std::string_view bos, eos;
};

Result<std::vector<Segment>> RenderChat(const ChatSpec& spec, const ChatTokens& tokens,
                                        std::span<const Message> messages,
                                        bool add_generation_prompt);
std::string RenderCompletion(const ChatSpec& spec, const Message& assistant);

}  // namespace retort::text
