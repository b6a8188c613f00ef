// tokenize: text or messages to ids, or ids to text; line by line.
// SPDX-License-Identifier: Apache-2.0
#include <optional>
#include <string>
#include <vector>

#include "core/data/record.h"
#include "host/commands/command.h"
#include "host/commands/lines.h"

namespace retort::host {
namespace {

struct TokenizeOptions {
  bool chat, generation_prompt, skip_special, add_special;
};

// The line's ids; *rendered gets the text of a chat.
Result<std::vector<int32_t>> EncodeLine(const json::Value& root, const OpenedModel& model,
                                        const TokenizeOptions& options, std::string_view where,
                                        std::optional<std::string>* rendered) {
  if (options.chat) {
    RETORT_ASSIGN_OR_RETURN(const std::vector<text::Message> messages,
                            data::ReadMessages(root["messages"], where));
    Result<std::string> chat_text = model.chat->Render(messages, options.generation_prompt);
    if (!chat_text.ok()) return chat_text.status().WithContext(where);
    *rendered = std::move(chat_text).value();
    return model.tokenizer->Encode(**rendered, {.add_special_tokens = false});
  }
  const json::Value text = root["text"];
  if (!text.is_string()) {
    const bool is_chat = root["messages"].is_array();
    return InvalidArgument(std::string(where) +
                           (is_chat ? ": the line has messages; use --chat to render them"
                                    : ": needs \"text\", a string"));
  }
  return model.tokenizer->Encode(text.StringOr(""), {.add_special_tokens = options.add_special});
}

Status EncodeTo(const json::Value& root, const OpenedModel& model, const TokenizeOptions& options,
                std::string_view where, json::Writer& out) {
  std::optional<std::string> rendered;
  RETORT_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                          EncodeLine(root, model, options, where, &rendered));
  out.BeginObject();
  if (rendered.has_value()) {
    CopyFields(root, {"ids", "text"}, out);
    out.Field("text", *rendered);
  } else {
    CopyFields(root, {"ids"}, out);
  }
  out.Key("ids");
  WriteIds(ids, out);
  out.EndObject();
  return OkStatus();
}

Status DecodeTo(const json::Value& root, const OpenedModel& model, const TokenizeOptions& options,
                std::string_view where, json::Writer& out) {
  RETORT_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, ReadIds(root["ids"], where));
  const Result<std::string> text = model.tokenizer->Decode(ids, options.skip_special);
  if (!text.ok()) return text.status().WithContext(where);
  out.BeginObject();
  CopyFields(root, {"text"}, out);
  out.Field("text", *text).EndObject();
  return OkStatus();
}

}  // namespace

Outcome RunTokenize(const CommandCall& call) {
  const bool decode = call.args.Flag("decode");
  const TokenizeOptions options{.chat = call.args.Flag("chat"),
                                .generation_prompt = call.args.Flag("generation_prompt"),
                                .skip_special = call.args.Flag("skip_special_tokens"),
                                .add_special = !call.args.Flag("no_special_tokens")};
  if (decode && options.chat) return Outcome::Usage("--decode and --chat exclude each other");
  RETORT_ASSIGN_OR_RETURN(
      const OpenedModel* model,
      call.session.OpenModel(call.args.Text("model"), call.args.Text("chat_format")));
  RETORT_ASSIGN_OR_RETURN([[maybe_unused]] const text::Tokenizer* tokenizer, TokenizerOf(*model));
  if (options.chat) {
    const Outcome chat = NeedChat(call, *model);
    if (!chat.ok()) return chat;
  }
  RETORT_ASSIGN_OR_RETURN(InputLines input, InputLines::Open(call.args.Text("input"), call.io));
  for (int64_t done = 1;; ++done) {
    if (call.cancelled()) return Interrupted();
    RETORT_ASSIGN_OR_RETURN(const std::optional<std::string_view> line, input.Next());
    if (!line.has_value()) return OkStatus();
    RETORT_ASSIGN_OR_RETURN(const json::Document document, ParseLine(*line, input.where()));
    json::Writer out;
    const auto convert = decode ? DecodeTo : EncodeTo;
    RETORT_RETURN_IF_ERROR(convert(document.root(), *model, options, input.where(), out));
    RETORT_RETURN_IF_ERROR(call.io.Line(out.text()));
    call.io.Progress({.what = "tokenize",
                      .done = static_cast<double>(done),
                      .total = 0,
                      .unit = "lines",
                      .fraction = input.fraction()});
  }
}

}  // namespace retort::host
