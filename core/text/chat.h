// Chat templates: messages -> the text a model was trained on. Built-in renderers, chosen by the
// hash of the model's template or by name (chat.format).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"

namespace retort::text {

struct Message {
  std::string role, content;
  std::string reasoning;  // of an assistant turn, "" if none
};

// A stretch of a rendered conversation.
struct Segment {
  std::string text;
  bool assistant = false;  // what the model writes, through the end of its turn
};

class ChatFormat {
 public:
  // `format` "auto": by the hash of `template_text` (unknown: error that lists the names and says
  // chat.format); else the built-in of that name: qwen2_5, smollm2, qwen3, llama3, deepseek_v3,
  // deepseek_r1, gemma, phi3, phi3_5, chatml. bos_token/eos_token: texts from
  // tokenizer_config.json, may be "".
  static Result<ChatFormat> Create(std::string_view format, std::string_view template_text,
                                   std::string_view bos_token, std::string_view eos_token);
  static std::vector<std::string> Names();

  const std::string& name() const { return name_; }
  // Text through the last turn, plus the generation prompt if asked for.
  Result<std::string> Render(std::span<const Message> messages, bool add_generation_prompt) const;
  // The same, cut at the borders of what the model writes: Render is the texts joined.
  Result<std::vector<Segment>> Segments(std::span<const Message> messages,
                                        bool add_generation_prompt) const;
  // What the model should write after a generation prompt for this turn, with its reasoning,
  // through the end of the turn.
  std::string Completion(const Message& assistant) const;
  // The text that ends an assistant turn ("<|im_end|>" …): trained, and a stop id.
  const std::string& turn_end() const { return turn_end_; }

 private:
  std::string name_, bos_, eos_, turn_end_;
};

}  // namespace retort::text
