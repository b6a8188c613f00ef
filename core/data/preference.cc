// SPDX-License-Identifier: Apache-2.0
#include "core/data/preference.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/json/json.h"

namespace retort::data {
namespace {

Status NoColumn(const Record& record, const std::string& name) {
  return InvalidArgument(record.where + ": there is no column '" + name +
                         "'; a pair has a prompt, chosen and rejected: map columns to them");
}

// Messages of a column: an answer to the prompt, or the whole conversation.
Result<std::vector<text::Message>> Conversation(const Record& record, const Column& column) {
  const std::string where = record.where + ": column '" + column.name + "'";
  RETORT_ASSIGN_OR_RETURN(
      const json::Document document,
      json::Document::Parse(column.json, where, {.max_bytes = uint64_t{16} << 20}));
  RETORT_ASSIGN_OR_RETURN(std::vector<text::Message> said, ReadMessages(document.root(), where));
  if (said.empty() || said.back().role != "assistant") {
    return InvalidArgument(where + ": the last message must be the assistant's answer");
  }
  if (said.size() > 1) return said;
  std::vector<text::Message> messages = record.messages;
  if (record.prompt) messages.push_back({"user", *record.prompt, {}});
  messages.push_back(std::move(said.front()));
  return messages;
}

// The record with one of its answers.
Result<Record> WithAnswer(const Record& record, const std::string& name) {
  const Column* column = record.Find(name);
  if (column == nullptr || column->json == "null") return NoColumn(record, name);
  Record whole;
  whole.uid = record.uid;
  whole.where = record.where;
  if (column->json.starts_with('[')) {
    RETORT_ASSIGN_OR_RETURN(whole.messages, Conversation(record, *column));
    return whole;
  }
  if (!record.prompt && record.messages.empty()) return NoColumn(record, "prompt");
  whole.prompt = record.prompt;
  whole.messages = record.messages;
  whole.completion = record.TextOf(name);
  return whole;
}

Result<float> MarginOf(const Record& record) {
  const std::optional<std::string> text = record.TextOf("margin");
  if (!text) return 1.0F;
  const auto document = json::Document::Parse(*text, record.where + ": column 'margin'");
  if (document.ok() && document->root().is_number()) {
    return static_cast<float>(document->root().DoubleOr(1));
  }
  return InvalidArgument(record.where + ": column 'margin' must be a number");
}

// What was left out of one side counts for the pair.
std::optional<SftExample> TakeSide(SftBuild side, SftBuild* build) {
  build->too_long += side.too_long;
  build->no_trained_token += side.no_trained_token;
  build->unfinished += side.unfinished;
  if (side.examples.empty()) return std::nullopt;
  return std::move(side.examples.front());
}

void Join(SftBuild better, SftBuild worse, Pair pair, PairBuild* build) {
  std::optional<SftExample> first = TakeSide(std::move(better), &build->build);
  const std::optional<SftExample> second =
      first ? TakeSide(std::move(worse), &build->build) : std::nullopt;
  if (!first || !second) return;
  if (first->ids == second->ids) return void(++build->equal);
  pair.split = static_cast<int64_t>(first->ids.size());
  first->ids.insert(first->ids.end(), second->ids.begin(), second->ids.end());
  first->trained.assign(first->ids.size(), 0);
  first->trained[static_cast<size_t>(pair.split) - 1] = first->trained.back() = 1;
  build->build.examples.push_back(std::move(*first));
  build->pairs.push_back(pair);
}

std::optional<double> ScoreOf(const Sample& sample, const std::string& name) {
  std::optional<double> sum;
  for (const RewardScore& score : sample.rewards) {
    if (!score.value || (!name.empty() && score.name != name)) continue;
    sum = sum.value_or(0) + *score.value;
  }
  return sum;
}

}  // namespace

Status AddPreference(const Record& record, const SftOptions& options, PairBuild* build) {
  RETORT_ASSIGN_OR_RETURN(const Record chosen, WithAnswer(record, "chosen"));
  RETORT_ASSIGN_OR_RETURN(const Record rejected, WithAnswer(record, "rejected"));
  RETORT_ASSIGN_OR_RETURN(const float margin, MarginOf(record));
  SftBuild better, worse;
  RETORT_RETURN_IF_ERROR(AddRecord(chosen, options, &better));
  RETORT_RETURN_IF_ERROR(AddRecord(rejected, options, &worse));
  Join(std::move(better), std::move(worse), {.better = margin, .worse = 0}, build);
  return OkStatus();
}

Status AddBestAndWorst(std::span<const Sample> group, const SftOptions& options,
                       const std::string& name, PairBuild* build) {
  const Sample *best = nullptr, *worst = nullptr;
  double high = 0, low = 0;
  for (const Sample& sample : group) {
    const std::optional<double> score = ScoreOf(sample, name);
    if (!score) continue;
    if (best == nullptr || *score > high) best = &sample, high = *score;
    if (worst == nullptr || *score < low) worst = &sample, low = *score;
  }
  if (best == nullptr || high <= low) return void(++build->equal), OkStatus();
  SftBuild better, worse;
  RETORT_RETURN_IF_ERROR(AddSample(*best, options, &better));
  RETORT_RETURN_IF_ERROR(AddSample(*worst, options, &worse));
  Join(std::move(better), std::move(worse),
       {.better = static_cast<float>(high), .worse = static_cast<float>(low)}, build);
  return OkStatus();
}

}  // namespace retort::data
