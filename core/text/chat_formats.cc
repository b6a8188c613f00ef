// One function per style. Each is byte-equal to the templates listed in kTemplates (goldens:
// tests/golden/chat) for system, user and assistant messages; tools are refused.
// SPDX-License-Identifier: Apache-2.0
#include "core/text/chat_formats.h"

#include <array>
#include <utility>

#include "core/base/hash.h"
#include "core/text/unicode.h"

namespace retort::text {
namespace {

constexpr std::string_view kDeepseekEnd = "<｜end▁of▁sentence｜>";

constexpr ChatSpec kSpecs[] = {
    {"qwen2_5", ChatStyle::kChatMl, "<|im_end|>",
     "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."},
    {"smollm2", ChatStyle::kChatMl, "<|im_end|>",
     "You are a helpful AI assistant named SmolLM, trained by Hugging Face"},
    {.name = "qwen3", .style = ChatStyle::kChatMl, .turn_end = "<|im_end|>", .thinks = true},
    {"llama3", ChatStyle::kLlama3, "<|eot_id|>"},
    {"deepseek_v3", ChatStyle::kDeepseek, kDeepseekEnd},
    {.name = "deepseek_r1",
     .style = ChatStyle::kDeepseek,
     .turn_end = kDeepseekEnd,
     .thinks = true},
    {"gemma", ChatStyle::kGemma, "<end_of_turn>"},
    {"phi3", ChatStyle::kPhi3, "<|end|>"},
    {.name = "phi3_5",
     .style = ChatStyle::kPhi3,
     .turn_end = "<|end|>",
     .skips_empty_system = true},
    {"chatml", ChatStyle::kChatMl, "<|im_end|>"},
};

// XXH3-128 of template texts. Made by tests/peers/make_chat_goldens.py, which also renders them.
constexpr std::pair<std::string_view, std::string_view> kTemplates[] = {
    {"e392aa06018503fd2469c9508f79506e", "qwen2_5"},
    {"0fab82ce8f4d5175c9e0155c80737cf2", "qwen3"},   // with content checks
    {"4457e3d12b367a860283f874ff58d644", "qwen3"},   // as first released
    {"cc9ddd5a40bc1c0c8fb5d937b1e8f5d0", "chatml"},  // Qwen3-Instruct-2507
    {"09facc0e4aa943189799ad6e2dea0594", "llama3"},
    {"4539344e06ec0b776878d9ac13b3ef51", "deepseek_v3"},
    {"fc60798d3b3a231256a138c31521e7c8", "deepseek_r1"},
    {"b59c4fde1d06da0055b25ceb4910aa64", "deepseek_r1"},  // the distilled models
    {"8b30bb763d138e692c2e86beabccd2a4", "gemma"},
    {"0850c77e9e7c37ed82fc89c04c54ba66", "phi3"},
    {"ceaa31b1554ec3f5cd8aff863abd4554", "phi3_5"},
    {"98f63cc3d421d28f99ab995e9629dacd", "smollm2"},
};

class Renderer {
 public:
  Renderer(const ChatSpec& spec, const ChatTokens& tokens) : spec_(spec), tokens_(tokens) {}

  Result<std::vector<Segment>> Run(std::span<const Message> messages, bool add_generation_prompt) {
    for (size_t i = 0; i < messages.size(); ++i) {
      const std::string& role = messages[i].role;
      if (role == "system" || role == "user" || role == "assistant") continue;
      return InvalidArgument("message " + std::to_string(i) + " has the role '" + role +
                             "'; chat format '" + std::string(spec_.name) +
                             "' knows system, user and assistant");
    }
    if (messages.empty()) return InvalidArgument("a conversation needs at least one message");
    RETORT_RETURN_IF_ERROR(Turns(messages));
    if (add_generation_prompt) {
      Text(GenerationPrompt());
    } else if (spec_.style == ChatStyle::kPhi3) {
      Text(tokens_.eos);
    }
    return std::move(segments_);
  }

 private:
  Status Turns(std::span<const Message> messages) {
    switch (spec_.style) {
      case ChatStyle::kChatMl: ChatMl(messages); return OkStatus();
      case ChatStyle::kLlama3: Llama3(messages); return OkStatus();
      case ChatStyle::kDeepseek: return Deepseek(messages);
      case ChatStyle::kGemma: return Gemma(messages);
      case ChatStyle::kPhi3: Phi3(messages); return OkStatus();
    }
    return OkStatus();
  }

  std::string_view GenerationPrompt() const {
    switch (spec_.style) {
      case ChatStyle::kChatMl: return "<|im_start|>assistant\n";
      case ChatStyle::kLlama3: return "<|start_header_id|>assistant<|end_header_id|>\n\n";
      case ChatStyle::kDeepseek:
        return spec_.thinks ? "<｜Assistant｜><think>\n" : "<｜Assistant｜>";
      case ChatStyle::kGemma: return "<start_of_turn>model\n";
      case ChatStyle::kPhi3: return "<|assistant|>\n";
    }
    return {};
  }

  void Text(std::string_view text) { Add(text, false); }
  // A turn: its head, its content and end (the model's, of an assistant), what follows.
  void Turn(std::string_view head, std::string_view content, bool assistant,
            std::string_view after) {
    Text(head);
    Add(std::string(content) + std::string(spec_.turn_end), assistant);
    Text(after);
  }
  void Add(std::string_view text, bool assistant) {
    if (segments_.empty() || segments_.back().assistant != assistant) {
      segments_.push_back({"", assistant});
    }
    segments_.back().text += text;
  }

  void ChatMl(std::span<const Message> messages);
  void Llama3(std::span<const Message> messages);
  Status Deepseek(std::span<const Message> messages);
  Status Gemma(std::span<const Message> messages);
  void Phi3(std::span<const Message> messages);

  const ChatSpec& spec_;
  ChatTokens tokens_;
  std::vector<Segment> segments_;
};

std::string_view StripNewlines(std::string_view text, bool left, bool right) {
  while (left && text.starts_with('\n')) text.remove_prefix(1);
  while (right && text.ends_with('\n')) text.remove_suffix(1);
  return text;
}

// Python's str.strip().
std::string_view Trim(std::string_view text) {
  const auto is_space = [](uint32_t c) {
    return (ClassOf(c) & kSpace) != 0 || (c >= 0x1C && c <= 0x1F);
  };
  while (!text.empty()) {
    const Char c = CharAt(text, 0);
    if (!is_space(c.code_point)) break;
    text.remove_prefix(c.bytes);
  }
  while (!text.empty()) {
    const size_t last = PreviousChar(text, text.size());
    if (!is_space(CharAt(text, last).code_point)) break;
    text.remove_suffix(text.size() - last);
  }
  return text;
}

// An assistant's answer without its reasoning, which may also stand in the content.
struct Answer {
  std::string_view reasoning, content;
};
Answer SplitAnswer(const Message& message) {
  constexpr std::string_view kOpen = "<think>", kClose = "</think>";
  const std::string_view text = message.content;
  if (!message.reasoning.empty()) return {message.reasoning, text};
  const size_t close = text.find(kClose);
  if (close == std::string_view::npos) return {"", text};
  std::string_view reasoning = StripNewlines(text.substr(0, close), false, true);
  const size_t open = reasoning.rfind(kOpen);
  if (open != std::string_view::npos) reasoning.remove_prefix(open + kOpen.size());
  const std::string_view content = text.substr(text.rfind(kClose) + kClose.size());
  return {StripNewlines(reasoning, true, false), StripNewlines(content, true, false)};
}

std::string WithReasoning(const Answer& answer) {
  return std::string(StripNewlines(answer.reasoning, true, true)) + "\n</think>\n\n" +
         std::string(StripNewlines(answer.content, true, false));
}

// The last message that is a user's question rather than a tool's answer in user's clothes.
size_t LastQuery(std::span<const Message> messages) {
  for (size_t i = messages.size(); i-- > 0;) {
    const std::string& text = messages[i].content;
    const bool tool = text.starts_with("<tool_response>") && text.ends_with("</tool_response>");
    if (messages[i].role == "user" && !tool) return i;
  }
  return messages.size() - 1;
}

void Renderer::ChatMl(std::span<const Message> messages) {
  if (!spec_.default_system.empty() && messages[0].role != "system") {
    Turn("<|im_start|>system\n", spec_.default_system, false, "\n");
  }
  const size_t query = LastQuery(messages);
  for (size_t i = 0; i < messages.size(); ++i) {
    const Message& message = messages[i];
    const bool assistant = message.role == "assistant";
    std::string content = message.content;
    if (spec_.thinks && assistant) {
      const Answer answer = SplitAnswer(message);
      const bool last = i + 1 == messages.size();
      const bool shown = i > query && (last || !answer.reasoning.empty());
      content = shown ? "<think>\n" + WithReasoning(answer) : std::string(answer.content);
    }
    Turn("<|im_start|>" + message.role + "\n", content, assistant, "\n");
  }
}

void Renderer::Llama3(std::span<const Message> messages) {
  Text(tokens_.bos);
  for (const Message& message : messages) {
    Turn("<|start_header_id|>" + message.role + "<|end_header_id|>\n\n", Trim(message.content),
         message.role == "assistant", "");
  }
}

Status Renderer::Deepseek(std::span<const Message> messages) {
  std::string system;
  int systems = 0;
  for (const Message& message : messages) {
    if (message.role == "system") system += (systems++ == 0 ? "" : "\n\n") + message.content;
  }
  if (spec_.thinks && systems > 1) {
    return InvalidArgument(
        "releases of chat format 'deepseek_r1' disagree about several system messages; join them");
  }
  Text(tokens_.bos);
  Text(system);
  for (const Message& message : messages) {
    if (message.role == "user") {
      Text("<｜User｜>");
      Text(message.content);
    } else if (message.role == "assistant") {
      std::string_view content = message.content;
      const size_t close = spec_.thinks ? content.rfind("</think>") : std::string_view::npos;
      if (close != std::string_view::npos) content.remove_prefix(close + 8);
      Turn("<｜Assistant｜>", content, true, "");
    }
  }
  return OkStatus();
}

Status Renderer::Gemma(std::span<const Message> messages) {
  for (size_t i = 0; i < messages.size(); ++i) {
    if (i == 0 && messages[i].role == "system") {
      return InvalidArgument(
          "chat format 'gemma' has no system role; put it into the first user "
          "message");
    }
    if ((messages[i].role == "user") != (i % 2 == 0)) {
      return InvalidArgument(
          "chat format 'gemma' wants user and assistant in turns, user first; "
          "message " +
          std::to_string(i) + " is of '" + messages[i].role + "'");
    }
  }
  Text(tokens_.bos);
  for (const Message& message : messages) {
    const bool assistant = message.role == "assistant";
    Turn("<start_of_turn>" + (assistant ? "model" : message.role) + "\n", Trim(message.content),
         assistant, "\n");
  }
  return OkStatus();
}

void Renderer::Phi3(std::span<const Message> messages) {
  for (const Message& message : messages) {
    if (spec_.skips_empty_system && message.role == "system" && message.content.empty()) continue;
    Turn("<|" + message.role + "|>\n", message.content, message.role == "assistant", "\n");
  }
}

}  // namespace

std::span<const ChatSpec> ChatSpecs() { return kSpecs; }

const ChatSpec* FindChatSpec(std::string_view name) {
  for (const ChatSpec& spec : kSpecs) {
    if (spec.name == name) return &spec;
  }
  return nullptr;
}

std::string TemplateHash(std::string_view template_text) {
  std::string text;
  for (size_t i = 0; i < template_text.size(); ++i) {
    const bool crlf = template_text.substr(i, 2) == "\r\n";
    if (!crlf) text.push_back(template_text[i]);
  }
  return HashHex(StripNewlines(text, false, true));
}

const ChatSpec* SpecOfTemplate(std::string_view template_text) {
  const std::string hash = TemplateHash(template_text);
  for (const auto& [known, name] : kTemplates) {
    if (known == hash) return FindChatSpec(name);
  }
  return nullptr;
}

Result<std::vector<Segment>> RenderChat(const ChatSpec& spec, const ChatTokens& tokens,
                                        std::span<const Message> messages,
                                        bool add_generation_prompt) {
  return Renderer(spec, tokens).Run(messages, add_generation_prompt);
}

std::string RenderCompletion(const ChatSpec& spec, const Message& assistant) {
  std::string text = assistant.content;
  if (spec.thinks) {
    // deepseek_r1's generation prompt has opened the block already.
    const bool opened = spec.style == ChatStyle::kDeepseek;
    text = (opened ? "" : "<think>\n") + WithReasoning(SplitAnswer(assistant));
  } else if (spec.style == ChatStyle::kLlama3 || spec.style == ChatStyle::kGemma) {
    text = std::string(Trim(assistant.content));
  }
  if (!spec.thinks && !assistant.reasoning.empty()) {
    text = "<think>\n" + assistant.reasoning + "\n</think>\n\n" + text;
  }
  return text + std::string(spec.turn_end);
}

}  // namespace retort::text
