// logprob: log-probabilities of given texts, token by token.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "host/commands/command.h"
#include "host/commands/lines.h"

namespace retort::host {
namespace {

// Tokens read before the model runs over them: many passes' worth, little memory.
constexpr size_t kChunkTokens = 32768;

struct Item {
  json::Document line;
  std::vector<int32_t> ids;
  int64_t first = 1;  // first counted position
};

Result<std::vector<int32_t>> Encode(const text::Tokenizer* tokenizer, const json::Value& text,
                                    bool special, std::string_view where) {
  if (tokenizer == nullptr) {
    return FailedPrecondition(std::string(where) +
                              ": the model has no tokenizer; give \"ids\" instead of text");
  }
  Result<std::vector<int32_t>> ids =
      tokenizer->Encode(text.StringOr(""), {.add_special_tokens = special});
  if (!ids.ok()) return ids.status().WithContext(where);
  return ids;
}

Status FillIds(const text::Tokenizer* tokenizer, std::string_view where, Item& item) {
  const json::Value root = item.line.root();
  if (root["ids"]) {
    RETORT_ASSIGN_OR_RETURN(item.ids, ReadIds(root["ids"], where));
    return OkStatus();
  }
  if (root["prompt"].is_string() && root["completion"].is_string()) {
    RETORT_ASSIGN_OR_RETURN(item.ids, Encode(tokenizer, root["prompt"], true, where));
    if (item.ids.empty()) {
      return InvalidArgument(std::string(where) +
                             ": the prompt has no token, so the completion's first token has no "
                             "probability; put the text into \"text\"");
    }
    item.first = static_cast<int64_t>(item.ids.size());
    RETORT_ASSIGN_OR_RETURN(const std::vector<int32_t> completion,
                            Encode(tokenizer, root["completion"], false, where));
    item.ids.insert(item.ids.end(), completion.begin(), completion.end());
    return OkStatus();
  }
  if (!root["text"].is_string()) {
    return InvalidArgument(std::string(where) +
                           ": needs \"text\", \"ids\", or \"prompt\" and \"completion\"");
  }
  RETORT_ASSIGN_OR_RETURN(item.ids, Encode(tokenizer, root["text"], true, where));
  return OkStatus();
}

Status CheckVocabulary(const Item& item, int64_t vocab, std::string_view where) {
  for (const int32_t id : item.ids) {
    if (id < vocab) continue;
    return InvalidArgument(std::string(where) + ": token id " + std::to_string(id) +
                           " is outside the model's vocabulary of " + std::to_string(vocab));
  }
  return OkStatus();
}

std::string ResultLine(const Item& item, const std::vector<float>& logp) {
  double sum = 0;
  json::Writer out;
  out.BeginObject();
  CopyFields(item.line.root(), {"ids", "logprob", "sum"}, out);
  out.Key("ids");
  WriteIds(item.ids, out);
  out.Key("logprob").BeginArray();
  for (const float value : logp) {
    out.Float(value);
    sum += static_cast<double>(value);
  }
  return out.EndArray().Field("sum", sum).EndObject().Take();
}

Status ScoreItems(const CommandCall& call, engine::Model& model, std::span<const Item> items) {
  std::vector<engine::ScoreRequest> requests;  // of the items with a counted token
  std::vector<size_t> owner;
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].first >= static_cast<int64_t>(items[i].ids.size())) continue;
    requests.push_back({items[i].ids, items[i].first});
    owner.push_back(i);
  }
  RETORT_ASSIGN_OR_RETURN(
      std::vector<engine::ScoreResult> results,
      model.Score(requests, call.args.Int("max_tokens", 0), &call.cancel, nullptr));
  std::vector<std::vector<float>> logp(items.size());
  for (size_t r = 0; r < results.size(); ++r) logp[owner[r]] = std::move(results[r].logp);
  for (size_t i = 0; i < items.size(); ++i) {
    RETORT_RETURN_IF_ERROR(call.io.Line(ResultLine(items[i], logp[i])));
  }
  return OkStatus();
}

}  // namespace

Outcome RunLogprob(const CommandCall& call) {
  RETORT_ASSIGN_OR_RETURN(const OpenedModel* opened,
                          call.session.OpenModel(call.args.Text("model")));
  RETORT_ASSIGN_OR_RETURN(InputLines input, InputLines::Open(call.args.Text("input"), call.io));
  RETORT_ASSIGN_OR_RETURN(const std::unique_ptr<engine::Model> model,
                          call.session.LoadModel(*opened));
  std::vector<Item> items;
  size_t tokens = 0;
  double done = 0;
  const auto flush = [&]() -> Status {
    RETORT_RETURN_IF_ERROR(ScoreItems(call, *model, items));
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
    Item item{std::move(document), {}, 1};
    RETORT_RETURN_IF_ERROR(FillIds(opened->tokenizer.get(), input.where(), item));
    RETORT_RETURN_IF_ERROR(CheckVocabulary(item, model->graph().vocab(), input.where()));
    tokens += item.ids.size();
    items.push_back(std::move(item));
    if (tokens >= kChunkTokens) RETORT_RETURN_IF_ERROR(flush());
  }
  return flush();
}

}  // namespace retort::host
