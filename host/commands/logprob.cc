// logprob: log-probabilities of given texts, token by token.
// SPDX-License-Identifier: Apache-2.0
#include "host/commands/logprob.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "host/commands/command.h"
#include "host/commands/lines.h"

namespace retort::host {
namespace {

struct Item {
  json::Document line;
  LogprobIds counted;
};

Result<std::vector<int32_t>> Encode(const text::Tokenizer* tokenizer, std::string_view text,
                                    bool special, std::string_view where) {
  if (tokenizer == nullptr) {
    return FailedPrecondition(std::string(where) +
                              ": the model has no tokenizer; give \"ids\" instead of text");
  }
  Result<std::vector<int32_t>> ids = tokenizer->Encode(text, {.add_special_tokens = special});
  if (!ids.ok()) return ids.status().WithContext(where);
  return ids;
}

Result<LogprobIds> ReadLine(const text::Tokenizer* tokenizer, const json::Value& root,
                            std::string_view where) {
  if (root["ids"]) {
    LogprobIds counted;
    RETORT_ASSIGN_OR_RETURN(counted.ids, ReadIds(root["ids"], where));
    return counted;
  }
  if (root["prompt"].is_string() && root["completion"].is_string()) {
    return EncodePair(tokenizer, root["prompt"].StringOr(""), root["completion"].StringOr(""),
                      where);
  }
  if (!root["text"].is_string()) {
    return InvalidArgument(std::string(where) +
                           ": needs \"text\", \"ids\", or \"prompt\" and \"completion\"");
  }
  return EncodeText(tokenizer, root["text"].StringOr(""), where);
}

std::string ResultLine(const Item& item, const std::vector<float>& logp) {
  double sum = 0;
  json::Writer out;
  out.BeginObject();
  CopyFields(item.line.root(), {"ids", "logprob", "sum"}, out);
  out.Key("ids");
  WriteIds(item.counted.ids, out);
  out.Key("logprob").BeginArray();
  for (const float value : logp) {
    out.Float(value);
    sum += static_cast<double>(value);
  }
  return out.EndArray().Field("sum", sum).EndObject().Take();
}

Status WriteItems(const CommandCall& call, engine::Model& model, int32_t adapter,
                  std::span<const Item> items) {
  std::vector<LogprobIds> counted;
  for (const Item& item : items) counted.push_back(item.counted);
  RETORT_ASSIGN_OR_RETURN(
      const std::vector<std::vector<float>> logp,
      Logprobs(model, counted, call.args.Int("max_tokens", 0), &call.cancel, adapter));
  for (size_t i = 0; i < items.size(); ++i) {
    RETORT_RETURN_IF_ERROR(call.io.Line(ResultLine(items[i], logp[i])));
  }
  return OkStatus();
}

}  // namespace

Result<LogprobIds> EncodeText(const text::Tokenizer* tokenizer, std::string_view text,
                              std::string_view where) {
  LogprobIds counted;
  RETORT_ASSIGN_OR_RETURN(counted.ids, Encode(tokenizer, text, true, where));
  return counted;
}

Result<LogprobIds> EncodePair(const text::Tokenizer* tokenizer, std::string_view prompt,
                              std::string_view completion, std::string_view where) {
  LogprobIds counted;
  RETORT_ASSIGN_OR_RETURN(counted.ids, Encode(tokenizer, prompt, true, where));
  if (counted.ids.empty()) {
    return InvalidArgument(std::string(where) +
                           ": the prompt has no token, so the completion's first token has no "
                           "probability; put the text into \"text\"");
  }
  counted.first = static_cast<int64_t>(counted.ids.size());
  RETORT_ASSIGN_OR_RETURN(const std::vector<int32_t> rest,
                          Encode(tokenizer, completion, false, where));
  counted.ids.insert(counted.ids.end(), rest.begin(), rest.end());
  return counted;
}

Status CheckVocabulary(std::span<const int32_t> ids, int64_t vocab, std::string_view where) {
  for (const int32_t id : ids) {
    if (id >= 0 && id < vocab) continue;
    return InvalidArgument(std::string(where) + ": token id " + std::to_string(id) +
                           " is outside the model's vocabulary of " + std::to_string(vocab));
  }
  return OkStatus();
}

Result<std::vector<std::vector<float>>> Logprobs(engine::Model& model,
                                                 std::span<const LogprobIds> items,
                                                 int64_t max_tokens, const engine::Cancel* cancel,
                                                 int32_t adapter) {
  std::vector<engine::ScoreRequest> requests;  // of the items with a counted token
  std::vector<size_t> owner;
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].first >= static_cast<int64_t>(items[i].ids.size())) continue;
    requests.push_back({.ids = items[i].ids, .first = items[i].first, .adapter = adapter});
    owner.push_back(i);
  }
  RETORT_ASSIGN_OR_RETURN(std::vector<engine::ScoreResult> results,
                          model.Score(requests, max_tokens, cancel, nullptr));
  std::vector<std::vector<float>> logp(items.size());
  for (size_t r = 0; r < results.size(); ++r) logp[owner[r]] = std::move(results[r].logp);
  return logp;
}

Outcome RunLogprob(const CommandCall& call) {
  if (const Outcome storage = CheckStorage(call); !storage.ok()) return storage;
  RETORT_ASSIGN_OR_RETURN(
      const OpenedModel* opened,
      call.session.OpenModel(call.args.Text("model"), "", call.args.Text("adapter")));
  RETORT_ASSIGN_OR_RETURN(InputLines input, InputLines::Open(call.args.Text("input"), call.io));
  RETORT_ASSIGN_OR_RETURN(const std::unique_ptr<engine::Model> model, LoadWeights(call, *opened));
  std::vector<Item> items;
  size_t tokens = 0;
  double done = 0;
  const auto flush = [&]() -> Status {
    RETORT_RETURN_IF_ERROR(WriteItems(call, *model, opened->adapter_index(), items));
    done += static_cast<double>(items.size());
    items.clear();
    tokens = 0;
    call.io.Progress({.what = "logprob",
                      .done = done,
                      .total = 0,
                      .unit = "lines",
                      .fraction = input.fraction()});
    return OkStatus();
  };
  for (;;) {
    if (call.cancelled()) return Interrupted();
    RETORT_ASSIGN_OR_RETURN(const std::optional<std::string_view> line, input.Next());
    if (!line.has_value()) break;
    RETORT_ASSIGN_OR_RETURN(json::Document document, ParseLine(*line, input.where()));
    RETORT_ASSIGN_OR_RETURN(LogprobIds counted,
                            ReadLine(opened->tokenizer.get(), document.root(), input.where()));
    RETORT_RETURN_IF_ERROR(CheckVocabulary(counted.ids, model->graph().vocab(), input.where()));
    tokens += counted.ids.size();
    items.push_back({std::move(document), std::move(counted)});
    if (tokens >= kLogprobChunkTokens) RETORT_RETURN_IF_ERROR(flush());
  }
  return flush();
}

}  // namespace retort::host
