// Rollouts as micro-batches of a policy loss: whole sequences packed, completions labelled, and
// what was measured about each token beside them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/engine/engine.h"
#include "host/pipeline/stages/rollouts.h"

namespace retort::host {

// Log-probabilities of the completions' tokens, one vector per sample, from its first completion
// token on; an absent one is empty. The last three are PPO's; `advantage` stands instead of the
// sample's.
struct TokenValues {
  std::vector<std::vector<float>> old_logp, ref_logp, entropy;
  std::vector<std::vector<float>> old_value, returns, advantage;
};

// Requests that score the completions of samples at a temperature.
std::vector<engine::ScoreRequest> ScoreRequests(std::span<const data::Sample> samples,
                                                std::span<const std::vector<int32_t>> ids,
                                                int32_t adapter, double temperature);
// Prompt and completion ids of each sample, joined.
std::vector<std::vector<int32_t>> JoinedIds(std::span<const data::Sample> samples);

class PolicyBatches {
 public:
  // `entropy_floor`: tokens of less entropy have no policy weight; -inf: all have it.
  // `share_prompts`: the samples of a prompt have its rows once (graph::TextsMayShareRows).
  PolicyBatches(const Rollouts& rollouts, const TokenValues& values, double entropy_floor,
                bool share_prompts)
      : rollouts_(rollouts),
        values_(values),
        entropy_floor_(entropy_floor),
        share_prompts_(share_prompts) {}

  // The samples of some groups as micro-batches of at most `max_tokens`, in order. A group that
  // fits into one isn't cut. A sample that isn't trained on is there as one token, so that counts
  // of sequences are right.
  std::vector<engine::MicroBatch> Make(std::span<const size_t> groups, int64_t max_tokens) const;

 private:
  bool IsTrained(size_t sample) const;
  // Tokens that a sample takes in a batch, beyond those of `prefix`.
  int64_t LengthOf(size_t sample, Prefix prefix) const;
  // What a sample may go on from in a batch whose sequence `head` (-1: none) has the same prompt.
  Prefix PrefixOf(size_t sample, int32_t head) const;
  // Of all samples of a group in one batch.
  int64_t GroupLength(size_t group) const;
  void Add(size_t sample, int32_t group, Prefix prefix, engine::MicroBatch* batch) const;
  void AddInputs(size_t sample, size_t n_prompt, size_t n, engine::MicroBatch* batch) const;
  size_t GroupSize() const { return rollouts_.samples.size() / rollouts_.rewards.size(); }

  const Rollouts& rollouts_;
  const TokenValues& values_;
  const double entropy_floor_;
  const bool share_prompts_;
};

// The entropy that the likeliest-to-matter share of tokens has at least: the quantile 1 - share of
// all completion tokens that are trained on (linear between them, as torch.quantile).
double EntropyFloor(const Rollouts& rollouts, const TokenValues& values, double share);

}  // namespace retort::host
