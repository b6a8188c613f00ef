// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stages/policy_batches.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace retort::host {
namespace {

constexpr int64_t kNoLabel = -100;

// Zeros for the prompt, then the values of the completion's tokens.
void Append(const std::vector<std::vector<float>>& all, size_t sample, size_t n_prompt, size_t n,
            std::vector<float>* out) {
  if (all.empty()) return;
  out->resize(out->size() + n_prompt, 0.0F);
  const std::vector<float>& values = all[sample];
  const size_t n_values = std::min(values.size(), n - n_prompt);
  out->insert(out->end(), values.begin(), values.begin() + static_cast<int64_t>(n_values));
  out->resize(out->size() + (n - n_prompt - n_values), 0.0F);
}

}  // namespace

std::vector<std::vector<int32_t>> JoinedIds(std::span<const data::Sample> samples) {
  std::vector<std::vector<int32_t>> ids;
  for (const data::Sample& sample : samples) {
    ids.push_back(sample.prompt_ids);
    ids.back().insert(ids.back().end(), sample.completion_ids.begin(), sample.completion_ids.end());
  }
  return ids;
}

std::vector<engine::ScoreRequest> ScoreRequests(std::span<const data::Sample> samples,
                                                std::span<const std::vector<int32_t>> ids,
                                                int32_t adapter, double temperature) {
  std::vector<engine::ScoreRequest> requests;
  for (size_t i = 0; i < samples.size(); ++i) {
    requests.push_back({.ids = ids[i],
                        .first = static_cast<int64_t>(samples[i].prompt_ids.size()),
                        .adapter = adapter,
                        .temperature = temperature,
                        .shares_prompt = true});
  }
  return requests;
}

bool PolicyBatches::IsTrained(size_t sample) const {
  return !std::isnan(rollouts_.advantage[sample]);
}

int64_t PolicyBatches::LengthOf(size_t sample, Prefix prefix) const {
  if (!IsTrained(sample)) return 1;
  const data::Sample& s = rollouts_.samples[sample];
  return static_cast<int64_t>(s.prompt_ids.size() + s.completion_ids.size()) - prefix.rows;
}

// All of the prompt but its last token, whose row predicts the completion's first one.
Prefix PolicyBatches::PrefixOf(size_t sample, int32_t head) const {
  const auto n_prompt = static_cast<int32_t>(rollouts_.samples[sample].prompt_ids.size());
  if (head < 0 || n_prompt < 2 || !IsTrained(sample)) return {};
  return {.sequence = head, .rows = n_prompt - 1};
}

void PolicyBatches::Add(size_t index, int32_t group, Prefix prefix,
                        engine::MicroBatch* batch) const {
  const data::Sample& sample = rollouts_.samples[index];
  const bool trained = IsTrained(index);
  const size_t n_prompt = trained ? sample.prompt_ids.size() : 1;
  const size_t n = trained ? n_prompt + sample.completion_ids.size() : 1;
  const size_t first = n_prompt + static_cast<size_t>(sample.n_prefix);  // token that is scored
  const auto begin = static_cast<size_t>(prefix.rows);
  if (batch->cu_seqlens.empty()) batch->cu_seqlens.push_back(0);
  for (size_t t = begin; t < n; ++t) {
    const bool prompt = t < n_prompt;
    batch->ids.push_back(prompt ? sample.prompt_ids[t] : sample.completion_ids[t - n_prompt]);
    batch->positions.push_back(static_cast<int32_t>(t));
    batch->labels.push_back(kNoLabel);
    batch->weight.push_back(1);
    if (t >= first && t > begin) batch->labels[batch->labels.size() - 2] = batch->ids.back();
  }
  batch->cu_seqlens.push_back(static_cast<int32_t>(batch->ids.size()));
  batch->prefixes.push_back(prefix);
  batch->sequence.group_id.push_back(group);
  AddInputs(index, n_prompt - begin, n - begin, batch);
}

// `n` entries, of which the first `n_prompt` are of the prompt.
void PolicyBatches::AddInputs(size_t index, size_t n_prompt, size_t n,
                              engine::MicroBatch* batch) const {
  const data::Sample& sample = rollouts_.samples[index];
  const bool trained = IsTrained(index);
  engine::SequenceInputs& inputs = batch->sequence;
  inputs.target.push_back(trained ? static_cast<float>(rollouts_.total[index]) : 0);
  if (values_.advantage.empty()) {
    const auto advantage = static_cast<float>(trained ? rollouts_.advantage[index] : 0);
    inputs.advantage.resize(batch->ids.size(), advantage);
  }
  Append(values_.advantage, index, n_prompt, n, &inputs.advantage);
  Append(values_.old_value, index, n_prompt, n, &inputs.old_value);
  Append(values_.returns, index, n_prompt, n, &inputs.returns);
  Append(values_.old_logp, index, n_prompt, n, &inputs.old_logp);
  Append(values_.ref_logp, index, n_prompt, n, &inputs.ref_logp);
  inputs.behaviour_logp.resize(batch->ids.size() - (n - n_prompt), 0.0F);
  for (size_t t = n_prompt; t < n; ++t) inputs.behaviour_logp.push_back(sample.logp[t - n_prompt]);
  if (values_.entropy.empty()) return;
  std::vector<float> entropy;
  Append(values_.entropy, index, n_prompt, n, &entropy);
  for (const float h : entropy) {
    inputs.policy_weight.push_back(static_cast<double>(h) >= entropy_floor_ ? 1.0F : 0.0F);
  }
}

int64_t PolicyBatches::GroupLength(size_t group) const {
  int64_t length = 0;
  int32_t head = -1;
  for (size_t i = group * GroupSize(); i < (group + 1) * GroupSize(); ++i) {
    length += LengthOf(i, PrefixOf(i, head));
    if (share_prompts_ && IsTrained(i)) head = 0;
  }
  return length;
}

std::vector<engine::MicroBatch> PolicyBatches::Make(std::span<const size_t> groups,
                                                    int64_t max_tokens) const {
  std::vector<engine::MicroBatch> batches;
  if (groups.empty()) return batches;  // dynamic sampling may leave none
  const size_t size = GroupSize();
  for (size_t g = 0; g < groups.size(); ++g) {
    int32_t head = -1;  // the sequence of the batch that has the group's prompt
    const int64_t whole = GroupLength(groups[g]);
    const bool split = !batches.empty() && whole <= max_tokens &&
                       static_cast<int64_t>(batches.back().ids.size()) + whole > max_tokens;
    if (split) batches.emplace_back();
    for (size_t i = groups[g] * size; i < (groups[g] + 1) * size; ++i) {
      const auto used = batches.empty() ? 0 : static_cast<int64_t>(batches.back().ids.size());
      if (batches.empty() || (used > 0 && used + LengthOf(i, PrefixOf(i, head)) > max_tokens)) {
        batches.emplace_back();
        head = -1;
      }
      engine::MicroBatch& batch = batches.back();
      Add(i, static_cast<int32_t>(groups[g]), PrefixOf(i, head), &batch);
      if (share_prompts_ && head < 0 && IsTrained(i)) {
        head = static_cast<int32_t>(batch.prefixes.size()) - 1;
      }
    }
  }
  for (engine::MicroBatch& batch : batches) {
    const auto alone = [](const Prefix& prefix) { return prefix.sequence < 0; };
    if (std::ranges::all_of(batch.prefixes, alone)) batch.prefixes.clear();
  }
  return batches;
}

double EntropyFloor(const Rollouts& rollouts, const TokenValues& values, double share) {
  std::vector<double> all;
  for (size_t i = 0; i < values.entropy.size(); ++i) {
    if (std::isnan(rollouts.advantage[i])) continue;
    all.insert(all.end(), values.entropy[i].begin(), values.entropy[i].end());
  }
  if (all.empty() || share >= 1) return -std::numeric_limits<double>::infinity();
  std::sort(all.begin(), all.end());
  const double at = (1 - share) * static_cast<double>(all.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, all.size() - 1);
  return all[below] + (at - static_cast<double>(below)) * (all[above] - all[below]);
}

}  // namespace retort::host
