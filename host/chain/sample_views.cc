// SPDX-License-Identifier: Apache-2.0
#include "host/chain/sample_views.h"

#include <algorithm>
#include <utility>

#include "core/base/plugin_call.h"
#include "core/data/prompt.h"
#include "core/json/json.h"

namespace retort::host {
namespace {

// Samples per call where a plugin has no wish: enough to spread its fixed cost, few enough to
// notice a cancel.
constexpr uint64_t kDefaultBatch = 64;

uint32_t FinishOf(const std::string& finish) {
  if (finish == "length") return RETORT_FINISH_LENGTH;
  if (finish == "cancelled") return RETORT_FINISH_CANCELLED;
  if (finish == "error") return RETORT_FINISH_ERROR;
  return RETORT_FINISH_STOP;
}

// The record's "answer" as text; absent if there is none.
Result<std::optional<std::string>> GoldOf(const data::Sample& sample) {
  json::ParseOptions limits;
  limits.max_bytes = uint64_t{16} << 20;
  RETORT_ASSIGN_OR_RETURN(
      const json::Document record,
      json::Document::Parse(sample.record, "record of sample " + data::UidToHex(sample.uid),
                            limits));
  const json::Value answer = record.root()["answer"];
  if (!answer || answer.is_null()) return std::optional<std::string>();
  if (answer.is_string()) return std::optional<std::string>(answer.StringOr(""));
  return std::optional<std::string>(answer.Dump());
}

}  // namespace

std::vector<GroupSpan> GroupsOf(std::span<const data::Sample> samples) {
  std::vector<GroupSpan> groups;
  for (size_t i = 0; i < samples.size(); ++i) {
    if (groups.empty() || groups.back().record_uid != samples[i].record_uid) {
      groups.push_back({i, 0, samples[i].record_uid});
    }
    ++groups.back().n;
  }
  return groups;
}

Result<SampleViews> SampleViews::Create(std::span<const data::Sample> samples, bool with_ids,
                                        const text::Tokenizer* tokenizer) {
  SampleViews out;
  out.groups_ = GroupsOf(samples);
  out.views_.resize(samples.size());
  out.golds_.resize(samples.size());
  for (size_t g = 0; g < out.groups_.size(); ++g) {
    for (size_t k = 0; k < out.groups_[g].n; ++k) {
      const size_t i = out.groups_[g].first + k;
      const data::Sample& sample = samples[i];
      retort_sample& view = out.views_[i];
      view.prompt = ToStr(sample.prompt);
      view.completion = ToStr(sample.completion);
      view.record = ToStr(sample.record);
      view.uid = sample.uid;
      view.record_uid = sample.record_uid;
      view.group = static_cast<uint32_t>(g);
      view.index = static_cast<uint32_t>(k);
      view.finish = FinishOf(sample.finish);
      RETORT_ASSIGN_OR_RETURN(std::optional<std::string> gold, GoldOf(sample));
      if (!gold.has_value()) continue;
      out.golds_[i] = std::move(*gold);
      view.gold = ToStr(out.golds_[i]);
    }
  }
  if (with_ids) RETORT_RETURN_IF_ERROR(out.AddIds(samples, tokenizer));
  return out;
}

Status SampleViews::AddIds(std::span<const data::Sample> samples,
                           const text::Tokenizer* tokenizer) {
  ids_.resize(2 * samples.size());
  data::PromptOptions options;
  options.tokenizer = tokenizer;
  for (size_t i = 0; i < samples.size(); ++i) {
    const data::Sample& sample = samples[i];
    std::span<const int32_t> prompt = sample.prompt_ids, completion = sample.completion_ids;
    if (completion.empty()) {
      if (tokenizer == nullptr) {
        return FailedPrecondition("sample " + data::UidToHex(sample.uid) +
                                  " has no token ids and there is no tokenizer to make them; "
                                  "name a model as `tokenizer`");
      }
      RETORT_ASSIGN_OR_RETURN(
          ids_[2 * i],
          data::EncodePrompt(sample.prompt, options, /*verbatim=*/sample.messages.empty()));
      RETORT_ASSIGN_OR_RETURN(ids_[2 * i + 1],
                              tokenizer->Encode(sample.completion, {.add_special_tokens = false}));
      prompt = ids_[2 * i];
      completion = ids_[2 * i + 1];
    }
    retort_sample& view = views_[i];
    view.prompt_ids = prompt.data();
    view.n_prompt_ids = static_cast<uint32_t>(prompt.size());
    view.completion_ids = completion.data();
    view.n_completion_ids = static_cast<uint32_t>(completion.size());
    if (sample.logp.size() == completion.size()) view.logp = sample.logp.data();
  }
  return OkStatus();
}

std::vector<retort_sample> SampleViews::Batch(SampleRange range) const {
  const auto begin = views_.begin() + static_cast<ptrdiff_t>(range.first);
  std::vector<retort_sample> batch(begin, begin + static_cast<ptrdiff_t>(range.n));
  const uint32_t first_group = batch.empty() ? 0 : batch.front().group;
  for (retort_sample& sample : batch) sample.group -= first_group;
  return batch;
}

std::vector<SampleRange> SampleViews::Split(uint64_t preferred, bool whole_groups) const {
  const size_t size = preferred == 0 ? kDefaultBatch : static_cast<size_t>(preferred);
  std::vector<SampleRange> ranges;
  if (!whole_groups) {
    for (size_t i = 0; i < views_.size(); i += size) {
      ranges.push_back({i, std::min(size, views_.size() - i)});
    }
    return ranges;
  }
  for (const GroupSpan& group : groups_) {
    const bool fits = !ranges.empty() && ranges.back().n + group.n <= size;
    if (!fits) ranges.push_back({group.first, 0});
    ranges.back().n += group.n;
  }
  return ranges;
}

}  // namespace retort::host
