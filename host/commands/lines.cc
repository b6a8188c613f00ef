// SPDX-License-Identifier: Apache-2.0
#include "host/commands/lines.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "core/data/record.h"
#include "core/io/jsonl.h"

namespace retort::host {
namespace {

// What of a record a filter judges as the completion; the rest is its prompt.
void FillTexts(const data::Record& record, data::Sample& sample) {
  sample.prompt = record.prompt.value_or("");
  if (record.completion.has_value()) {
    sample.completion = *record.completion;
  } else if (record.text.has_value()) {
    sample.completion = *record.text;
  }
  sample.messages = record.messages;
  if (sample.completion.empty() && !sample.messages.empty() &&
      sample.messages.back().role == "assistant") {
    sample.completion = sample.messages.back().content;
    sample.messages.pop_back();
  }
  if (!sample.prompt.empty()) return;
  for (const text::Message& message : sample.messages) {
    sample.prompt += (sample.prompt.empty() ? "" : "\n") + message.content;
  }
}

// The parser counts lines within its text, which here is one line of a file: "f:7:1:15" ->
// "f:7:15".
Status WithoutInnerLine(const Status& status, const std::string& where) {
  const std::string& message = status.message();
  const std::string prefix = where + ":1:";
  if (!message.starts_with(prefix)) return status;
  return {status.code(), where + ":" + message.substr(prefix.size())};
}

}  // namespace

Result<json::Document> ParseLine(std::string_view line, std::string_view where) {
  json::ParseOptions limits;
  limits.max_bytes = io::kMaxLineBytes;
  Result<json::Document> document = json::Document::Parse(line, where, limits);
  if (!document.ok()) return {WithoutInnerLine(document.status(), std::string(where))};
  if (!document->root().is_object()) {
    return InvalidArgument(std::string(where) + ": the line is no JSON object");
  }
  return document;
}

void CopyFields(const json::Value& object, std::initializer_list<std::string_view> without,
                json::Writer& out) {
  for (size_t i = 0; i < object.size(); ++i) {
    const std::string_view key = object.key_at(i);
    if (std::find(without.begin(), without.end(), key) != without.end()) continue;
    out.Key(key).Copy(object.value_at(i));
  }
}

Result<std::vector<int32_t>> ReadIds(const json::Value& value, std::string_view where) {
  if (!value.is_array()) {
    return InvalidArgument(std::string(where) + ": \"ids\" must be a list of token ids");
  }
  std::vector<int32_t> ids;
  ids.reserve(value.size());
  for (size_t i = 0; i < value.size(); ++i) {
    const Result<int64_t> id = value[i].AsInt();
    if (!id.ok() || *id < 0 || *id > std::numeric_limits<int32_t>::max()) {
      return InvalidArgument(std::string(where) + ": \"ids\"[" + std::to_string(i) +
                             "] is no token id");
    }
    ids.push_back(static_cast<int32_t>(*id));
  }
  return ids;
}

void WriteIds(const std::vector<int32_t>& ids, json::Writer& out) {
  out.BeginArray();
  for (const int32_t id : ids) out.Int(id);
  out.EndArray();
}

Result<data::Sample> SampleFromLine(std::string_view line, std::string_view where) {
  {
    RETORT_ASSIGN_OR_RETURN(const json::Document document, ParseLine(line, where));
    const json::Value root = document.root();
    const bool is_pair = root["prompt"].is_string() && root["completion"].is_string();
    if (data::IsSampleLine(root) || is_pair) return data::SampleFromJson(line, where);
  }
  RETORT_ASSIGN_OR_RETURN(const data::Record record, data::ParseRecord(line, where, {}));
  data::Sample sample;
  sample.uid = record.uid;
  sample.record_uid = record.uid;
  sample.record = record.Json();
  FillTexts(record, sample);
  return sample;
}

Result<json::Document> ChainEntries(const std::vector<std::string>& items, std::string_view what) {
  json::Writer out;
  out.BeginArray();
  for (const std::string& item : items) {
    const size_t colon = item.find(':');
    const bool whole = item.starts_with('{');
    if (!whole && colon == std::string::npos) {
      out.String(item);
      continue;
    }
    const std::string text = whole ? item : item.substr(colon + 1);
    RETORT_ASSIGN_OR_RETURN(
        const json::Document value,
        json::Document::Parse(text, std::string(what) + " `" + item.substr(0, 40) + "`"));
    if (whole) {
      out.Copy(value.root());
      continue;
    }
    out.BeginObject().Field("plugin", std::string_view(item).substr(0, colon));
    out.Key("config").Copy(value.root()).EndObject();
  }
  return json::Document::Parse(out.EndArray().Take(), what);
}

Outcome ChainFailure(const Status& status) {
  const bool callers = status.code() == Code::kInvalidArgument || status.code() == Code::kNotFound;
  return callers ? Outcome::Usage(status) : Outcome(status);
}

Result<const text::Tokenizer*> TokenizerOf(const OpenedModel& model) {
  if (model.tokenizer != nullptr) return const_cast<const text::Tokenizer*>(model.tokenizer.get());
  return FailedPrecondition("model " + model.path + " has no tokenizer (no tokenizer.json)");
}

Result<const text::Tokenizer*> OpenTokenizer(const CommandCall& call) {
  const std::string path = call.args.Text("tokenizer");
  if (path.empty()) return static_cast<const text::Tokenizer*>(nullptr);
  RETORT_ASSIGN_OR_RETURN(const OpenedModel* model, call.session.OpenModel(path));
  return TokenizerOf(*model);
}

Result<std::unique_ptr<engine::Model>> LoadWeights(const CommandCall& call,
                                                   const OpenedModel& model) {
  const bool chosen = call.args.Has("storage");
  RETORT_ASSIGN_OR_RETURN(
      std::unique_ptr<engine::Model> weights,
      call.session.LoadModel(model, chosen ? call.args.Text("storage") : std::string("auto")));
  for (const std::string& note : weights->storage().notes) {
    if (chosen) call.io.Warning("storage: " + note);
  }
  return weights;
}

Outcome CheckStorage(const CommandCall& call) {
  if (!call.args.Has("storage")) return OkStatus();
  const Result<model::Storage> storage = model::ParseStorage(call.args.Text("storage"));
  return storage.ok() ? Outcome() : Outcome::Usage(storage.status());
}

Outcome NeedChat(const CommandCall& call, const OpenedModel& model) {
  if (model.chat.has_value()) return OkStatus();
  const bool chosen = call.args.Has("chat_format");
  return chosen ? Outcome::Usage(model.chat_status) : Outcome(model.chat_status);
}

Status Interrupted() { return Cancelled("interrupted"); }

}  // namespace retort::host
