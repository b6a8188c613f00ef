// SPDX-License-Identifier: Apache-2.0
#include "core/data/sft_example.h"

#include <algorithm>
#include <utility>

namespace retort::data {
namespace {

// An example under construction.
class Builder {
 public:
  explicit Builder(const SftOptions& options) : options_(options) {}

  void Ids(const std::vector<int32_t>& ids, bool trained) {
    example_.ids.insert(example_.ids.end(), ids.begin(), ids.end());
    const bool counts = trained || options_.train_on == TrainOn::kAll;
    example_.trained.insert(example_.trained.end(), ids.size(), counts ? 1 : 0);
  }
  Status Text(std::string_view text, bool trained) {
    RETORT_ASSIGN_OR_RETURN(const auto ids,
                            tokenizer().Encode(text, {.add_special_tokens = false}));
    Ids(ids, trained);
    return OkStatus();
  }
  // A completion and, if it is whole, the end of the turn.
  Status Completion(std::string text, bool whole) {
    const text::ChatFormat* chat = options_.prompt.chat;
    if (whole && chat != nullptr) text += chat->turn_end();
    RETORT_RETURN_IF_ERROR(Text(text, true));
    if (whole && chat == nullptr) End();
    return OkStatus();
  }
  // The tokenizer's eos, unless it stands there already.
  void End() {
    const int32_t eos = tokenizer().eos_id();
    if (eos >= 0 && (example_.ids.empty() || example_.ids.back() != eos)) Ids({eos}, true);
  }

  // Truncates, counts, keeps.
  Status Finish(uint64_t uid, std::string_view where, SftBuild* build) {
    const auto length = static_cast<int64_t>(example_.ids.size());
    if (length > options_.max_length) {
      switch (options_.truncation) {
        case Truncation::kDrop: ++build->too_long; return OkStatus();
        case Truncation::kError:
          return InvalidArgument(std::string(where) + ": the example has " +
                                 std::to_string(length) + " tokens, over max_length " +
                                 std::to_string(options_.max_length) +
                                 "; raise it, or set truncation to drop or keep_start");
        case Truncation::kKeepStart:
          example_.ids.resize(static_cast<size_t>(options_.max_length));
          example_.trained.resize(static_cast<size_t>(options_.max_length));
          break;
      }
    }
    // A document's first token is never predicted.
    const auto& trained = example_.trained;
    const auto first = trained.begin() + (trained.empty() ? 0 : 1);
    if (std::find(first, trained.end(), uint8_t{1}) == trained.end()) {
      ++build->no_trained_token;
      return OkStatus();
    }
    example_.uid = uid;
    build->examples.push_back(std::move(example_));
    return OkStatus();
  }

 private:
  const text::Tokenizer& tokenizer() const { return *options_.prompt.tokenizer; }
  const SftOptions& options_;
  SftExample example_;
};

Status AddText(const Record& record, const SftOptions& options, SftBuild* build) {
  Builder builder(options);
  RETORT_ASSIGN_OR_RETURN(const auto ids, options.prompt.tokenizer->Encode(*record.text));
  builder.Ids(ids, true);
  builder.End();
  return builder.Finish(record.uid, record.where, build);
}

// Messages that end in an assistant's turn.
Status AddConversation(const Record& record, const SftOptions& options, SftBuild* build) {
  Builder builder(options);
  RETORT_ASSIGN_OR_RETURN(const Prompt prompt, BuildPrompt(record, options.prompt));
  if (options.train_on == TrainOn::kAssistant) {
    RETORT_ASSIGN_OR_RETURN(const auto segments,
                            options.prompt.chat->Segments(prompt.messages, true));
    for (const text::Segment& segment : segments) {
      RETORT_RETURN_IF_ERROR(builder.Text(segment.text, segment.assistant));
    }
  } else {
    builder.Ids(prompt.ids, false);
  }
  RETORT_RETURN_IF_ERROR(
      builder.Text(options.prompt.chat->Completion(record.messages.back()), true));
  return builder.Finish(record.uid, record.where, build);
}

Status AddCompletion(const Record& record, const std::string& completion, const SftOptions& options,
                     SftBuild* build) {
  Builder builder(options);
  RETORT_ASSIGN_OR_RETURN(const Prompt prompt, BuildPrompt(record, options.prompt));
  builder.Ids(prompt.ids, false);
  RETORT_RETURN_IF_ERROR(builder.Completion(completion, true));
  return builder.Finish(record.uid, record.where, build);
}

// Ids may be trained on as they are if they are this tokenizer's and end as a turn ends.
bool UsesIds(const Sample& sample, const text::Tokenizer& tokenizer) {
  if (sample.tokenizer != tokenizer.hash()) return false;
  if (sample.prompt_ids.empty() || sample.completion_ids.empty()) return false;
  const int32_t last = sample.completion_ids.back();
  return sample.finish == "length" || tokenizer.IsSpecial(last) || last == tokenizer.eos_id();
}

Result<std::vector<int32_t>> PromptIds(const Sample& sample, const PromptOptions& options) {
  if (options.chat != nullptr && !sample.messages.empty()) {
    RETORT_ASSIGN_OR_RETURN(const std::string text, options.chat->Render(sample.messages, true));
    return EncodePrompt(text, options, false);
  }
  // A rendered text may carry its bos already.
  const std::string_view bos = options.tokenizer->IdToToken(options.tokenizer->bos_id());
  const bool has_bos = !bos.empty() && sample.prompt.starts_with(bos);
  return EncodePrompt(sample.prompt, options, !has_bos);
}

}  // namespace

Result<TrainOn> ParseTrainOn(std::string_view name) {
  if (name == "completion") return TrainOn::kCompletion;
  if (name == "assistant") return TrainOn::kAssistant;
  if (name == "all") return TrainOn::kAll;
  return InvalidArgument("train_on '" + std::string(name) +
                         "' is unknown (known: completion, assistant, all)");
}

Result<Truncation> ParseTruncation(std::string_view name) {
  if (name == "drop") return Truncation::kDrop;
  if (name == "keep_start") return Truncation::kKeepStart;
  if (name == "error") return Truncation::kError;
  return InvalidArgument("truncation '" + std::string(name) +
                         "' is unknown (known: drop, keep_start, error)");
}

Status AddRecord(const Record& record, const SftOptions& options, SftBuild* build) {
  if (record.text) return AddText(record, options, build);
  if (record.completion) return AddCompletion(record, *record.completion, options, build);
  if (!record.generations.empty()) {
    for (const Generation& generation : record.generations) {
      if (!generation.finish.empty() && generation.finish != "stop") {
        ++build->unfinished;
        continue;
      }
      RETORT_RETURN_IF_ERROR(AddCompletion(record, generation.completion, options, build));
    }
    return OkStatus();
  }
  // What the user says after the last answer trains nothing.
  Record whole = record;
  while (!whole.messages.empty() && whole.messages.back().role != "assistant") {
    whole.messages.pop_back();
  }
  if (whole.messages.empty()) {
    return InvalidArgument(record.where +
                           ": nothing to train on: no completion, no assistant turn, no text; map "
                           "a column to completion");
  }
  return AddConversation(whole, options, build);
}

Status AddSample(const Sample& sample, const SftOptions& options, SftBuild* build) {
  const std::string where = "sample " + UidToHex(sample.uid);
  if (sample.finish == "cancelled" || sample.finish == "error") {
    ++build->unfinished;
    return OkStatus();
  }
  Builder builder(options);
  if (UsesIds(sample, *options.prompt.tokenizer)) {
    builder.Ids(sample.prompt_ids, false);
    builder.Ids(sample.completion_ids, true);
    return builder.Finish(sample.uid, where, build);
  }
  auto prompt = PromptIds(sample, options.prompt);
  if (!prompt.ok()) return prompt.status().WithContext(where);
  builder.Ids(*prompt, false);
  RETORT_RETURN_IF_ERROR(builder.Completion(sample.completion, sample.finish == "stop"));
  return builder.Finish(sample.uid, where, build);
}

}  // namespace retort::data
