// The formats of docs/formats.md, section 7: from columns to text, prompt or messages. One
// function a format; `auto` picks by the columns that are there.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <utility>

#include "core/data/record_internal.h"

namespace retort::data {
namespace {

constexpr std::array<std::string_view, 11> kFormats = {
    "auto",   "text",     "messages", "prompt",  "preference", "problem",
    "alpaca", "sharegpt", "stratos",  "open_r1", "verl"};

class FormatReader {
 public:
  FormatReader(std::string_view where, Record* record) : where_(where), record_(*record) {}

  Status Run(std::string_view format) {
    if (format == "auto") format = Guess();
    if (format == "text") return Text("text", &record_.text);
    if (format == "messages") return Messages("messages");
    if (format == "prompt" || format == "preference") return Prompt(format == "preference");
    if (format == "problem") return Problem();
    if (format == "alpaca") return Alpaca();
    if (format == "sharegpt" || format == "stratos") return ShareGpt(format == "stratos");
    if (format == "open_r1") return OpenR1();
    if (format == "verl") return Verl();
    return Bad("no format fits its columns (" + Names() +
               "): name one as format, or map columns to prompt, messages or text");
  }

 private:
  Status Bad(const std::string& message) const {
    return InvalidArgument(std::string(where_) + ": " + message);
  }
  bool Has(std::string_view name) const {
    const Column* column = record_.Find(name);
    return column != nullptr && column->json != "null";
  }
  std::string Names() const {
    std::string names;
    for (const Column& c : record_.columns) names += (names.empty() ? "" : ", ") + c.name;
    return names.empty() ? "none" : names;
  }

  std::string_view Guess() const {
    if (Has("messages")) return "messages";
    if (Has("prompt") && Has("reward_model")) return "verl";
    if (Has("chosen") && Has("rejected")) return "preference";
    if (Has("prompt")) return Has("chosen") ? "preference" : "prompt";
    if (Has("conversations")) return "sharegpt";
    if (Has("instruction")) return "alpaca";
    if (Has("problem")) return Has("generations") ? "open_r1" : "problem";
    if (Has("text")) return "text";
    return "";
  }

  // A column's JSON as a document; absent if there is no such column.
  Result<std::optional<json::Document>> Parse(std::string_view name) const {
    if (!Has(name)) return std::optional<json::Document>();
    RETORT_ASSIGN_OR_RETURN(
        json::Document document,
        json::Document::Parse(record_.Find(name)->json,
                              std::string(where_) + ": column '" + std::string(name) + "'",
                              {.max_bytes = uint64_t{16} << 20}));
    return std::optional(std::move(document));
  }

  Status Text(std::string_view name, std::optional<std::string>* out) {
    RETORT_ASSIGN_OR_RETURN(const auto document, Parse(name));
    if (!document) return Bad("column '" + std::string(name) + "' is missing");
    const auto text = document->root().AsString();
    if (!text.ok()) return Bad("column '" + std::string(name) + "' is not a string");
    *out = std::string(*text);
    return OkStatus();
  }
  Result<std::string> Text(std::string_view name, bool required) {
    std::optional<std::string> text;
    if (!required && !Has(name)) return std::string();
    RETORT_RETURN_IF_ERROR(Text(name, &text));
    return std::move(*text);
  }
  void Say(std::string_view role, std::string content, std::string reasoning = {}) {
    record_.messages.push_back({std::string(role), std::move(content), std::move(reasoning)});
  }

  Status Messages(std::string_view name) {
    RETORT_ASSIGN_OR_RETURN(const auto document, Parse(name));
    if (!document) return Bad("column '" + std::string(name) + "' is missing");
    RETORT_ASSIGN_OR_RETURN(
        auto messages, ReadMessages(document->root(),
                                    std::string(where_) + ": column '" + std::string(name) + "'"));
    if (messages.empty()) return Bad("column '" + std::string(name) + "' has no message");
    std::move(messages.begin(), messages.end(), std::back_inserter(record_.messages));
    return OkStatus();
  }

  // Strings stay prompt and completion; lists of messages become one conversation.
  Status Prompt(bool preference) {
    if (preference && (!Has("chosen") || !Has("rejected"))) {
      return Bad("a preference record needs prompt, chosen and rejected");
    }
    if (preference && !Has("prompt") && record_.Find("chosen")->json.starts_with('[')) {
      return Conversation();
    }
    if (!Has("prompt")) return Bad("column 'prompt' is missing");
    const bool is_list = record_.Find("prompt")->json.starts_with('[');
    if (is_list) {
      RETORT_RETURN_IF_ERROR(Messages("prompt"));
    } else {
      RETORT_RETURN_IF_ERROR(Text("prompt", &record_.prompt));
    }
    if (!Has("completion")) return OkStatus();
    if (record_.Find("completion")->json.starts_with('[') != is_list) {
      return Bad("prompt and completion must both be strings or both lists of messages");
    }
    return is_list ? Messages("completion") : Text("completion", &record_.completion);
  }

  // Both answers come with the whole conversation: what was said before the last is the prompt.
  Status Conversation() {
    RETORT_RETURN_IF_ERROR(Messages("chosen"));
    if (record_.messages.size() > 1 && record_.messages.back().role == "assistant") {
      record_.messages.pop_back();
      return OkStatus();
    }
    return Bad("column 'chosen' must be a conversation that ends with an answer");
  }

  Status Problem() {
    RETORT_ASSIGN_OR_RETURN(std::string problem, Text("problem", true));
    Say("user", std::move(problem));
    return OkStatus();
  }

  Status Alpaca() {
    RETORT_ASSIGN_OR_RETURN(std::string system, Text("system", false));
    if (!system.empty()) Say("system", std::move(system));
    RETORT_ASSIGN_OR_RETURN(const auto history, Parse("history"));
    for (size_t i = 0; history && i < history->root().size(); ++i) {
      const json::Value turn = history->root()[i];
      if (turn.size() != 2 || !turn[0].is_string() || !turn[1].is_string()) {
        return Bad("history[" + std::to_string(i) + "] is not a pair of strings");
      }
      Say("user", std::string(turn[0].StringOr("")));
      Say("assistant", std::string(turn[1].StringOr("")));
    }
    RETORT_ASSIGN_OR_RETURN(std::string question, Text("instruction", true));
    RETORT_ASSIGN_OR_RETURN(const std::string input, Text("input", false));
    if (!input.empty()) question += "\n" + input;
    Say("user", std::move(question));
    RETORT_ASSIGN_OR_RETURN(std::string output, Text("output", false));
    if (Has("output")) Say("assistant", std::move(output));
    return OkStatus();
  }

  Status ShareGpt(bool stratos) {
    RETORT_ASSIGN_OR_RETURN(std::string system, Text("system", false));
    if (!system.empty()) Say("system", std::move(system));
    RETORT_ASSIGN_OR_RETURN(const auto document, Parse("conversations"));
    if (!document || !document->root().is_array()) {
      return Bad("column 'conversations' is missing or not a list");
    }
    const json::Value turns = document->root();
    for (size_t i = 0; i < turns.size(); ++i) {
      const std::string_view from = turns[i]["from"].StringOr("");
      const json::Value value = turns[i]["value"];
      const std::string_view role = from == "human" || from == "user"      ? "user"
                                    : from == "gpt" || from == "assistant" ? "assistant"
                                    : from == "system"                     ? "system"
                                                                           : "";
      if (role.empty() || !value.is_string()) {
        return Bad("conversations[" + std::to_string(i) +
                   "] needs 'from' (human, user, gpt, assistant or system) and a string 'value'");
      }
      std::string text(value.StringOr("")), reasoning;
      if (stratos && role == "assistant") CutStratos(&text, &reasoning);
      Say(role, std::move(text), std::move(reasoning));
    }
    return record_.messages.empty() ? Bad("'conversations' is empty") : OkStatus();
  }

  // <|begin_of_thought|>…<|end_of_thought|> … <|begin_of_solution|>…<|end_of_solution|>
  static void CutStratos(std::string* text, std::string* reasoning) {
    const auto between = [text](std::string_view open, std::string_view close, std::string* out) {
      const size_t begin = text->find(open);
      if (begin == std::string::npos) return false;
      const size_t inner = begin + open.size();
      const size_t end = text->find(close, inner);
      if (end == std::string::npos) return false;
      *out = text->substr(inner, end - inner);
      while (out->starts_with('\n')) out->erase(0, 1);
      while (out->ends_with('\n')) out->pop_back();
      return true;
    };
    std::string solution;
    if (!between("<|begin_of_thought|>", "<|end_of_thought|>", reasoning)) return;
    if (between("<|begin_of_solution|>", "<|end_of_solution|>", &solution)) {
      *text = std::move(solution);
    } else {
      reasoning->clear();
    }
  }

  Status OpenR1() {
    RETORT_RETURN_IF_ERROR(Problem());
    RETORT_ASSIGN_OR_RETURN(const auto generations, Parse("generations"));
    RETORT_ASSIGN_OR_RETURN(const auto reasons, Parse("finish_reasons"));
    for (size_t i = 0; generations && i < generations->root().size(); ++i) {
      const json::Value text = generations->root()[i];
      if (!text.is_string()) return Bad("generations[" + std::to_string(i) + "] is not a string");
      const json::Value reason = reasons ? reasons->root()[i] : json::Value();
      record_.generations.push_back(
          {std::string(text.StringOr("")), std::string(reason.StringOr(""))});
    }
    RETORT_ASSIGN_OR_RETURN(const auto verification, Parse("verification_info"));
    if (verification && verification->root()["test_cases"] && !Has("tests")) {
      record_.columns.push_back({"tests", verification->root()["test_cases"].Dump()});
    }
    return OkStatus();
  }

  Status Verl() {
    RETORT_RETURN_IF_ERROR(Messages("prompt"));
    RETORT_ASSIGN_OR_RETURN(const auto model, Parse("reward_model"));
    const json::Value truth = model ? model->root()["ground_truth"] : json::Value();
    if (truth && !Has("answer")) record_.columns.push_back({"answer", truth.Dump()});
    return OkStatus();
  }

  std::string_view where_;
  Record& record_;
};

}  // namespace

std::vector<std::string> RecordFormats() { return {kFormats.begin(), kFormats.end()}; }

bool IsRecordFormat(std::string_view format) {
  return std::find(kFormats.begin(), kFormats.end(), format) != kFormats.end();
}

Status ReadFormat(std::string_view format, std::string_view where, Record* record) {
  return FormatReader(where, record).Run(format);
}

Result<std::vector<text::Message>> ReadMessages(const json::Value& value, std::string_view where) {
  const auto bad = [&](size_t i, const std::string& message) {
    return InvalidArgument(std::string(where) + "[" + std::to_string(i) + "]: " + message);
  };
  if (!value.is_array()) {
    return InvalidArgument(std::string(where) + ": a list of messages is needed");
  }
  std::vector<text::Message> messages;
  for (size_t i = 0; i < value.size(); ++i) {
    const json::Value role = value[i]["role"], content = value[i]["content"];
    json::Value reasoning = value[i]["reasoning"];
    if (!reasoning) reasoning = value[i]["reasoning_content"];
    if (!role.is_string() || role.StringOr("").empty()) return bad(i, "'role' must be a string");
    if (!content.is_string()) {
      return bad(i, "'content' must be a string (tool calls and parts are not supported)");
    }
    if (reasoning && !reasoning.is_null() && !reasoning.is_string()) {
      return bad(i, "'reasoning' must be a string");
    }
    messages.push_back({std::string(role.StringOr("")), std::string(content.StringOr("")),
                        std::string(reasoning.StringOr(""))});
  }
  return messages;
}

void WriteMessages(const std::vector<text::Message>& messages, json::Writer* writer) {
  writer->BeginArray();
  for (const text::Message& message : messages) {
    writer->BeginObject();
    writer->Field("role", message.role).Field("content", message.content);
    if (!message.reasoning.empty()) writer->Field("reasoning", message.reasoning);
    writer->EndObject();
  }
  writer->EndArray();
}

}  // namespace retort::data
