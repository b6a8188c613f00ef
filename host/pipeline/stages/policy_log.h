// What a grpo stage tells of its rollouts: lines of samples.jsonl, and metrics by TRL's names.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/io/jsonl.h"
#include "core/json/json.h"
#include "host/pipeline/stages/rollouts.h"

namespace retort::host {

// Over the values that aren't NaN; 0 if there are none.
double MeanOf(const std::vector<double>& values);

// Scores by reward, [n] each.
std::vector<std::vector<double>> ScoresByReward(const Rollouts& rollouts, size_t n_rewards);

// A line for each sample, with its rewards, the step, and what became of them.
Status AppendSamples(const Rollouts& rollouts, const RewardChain& chain, int64_t step,
                     io::JsonlAppender* file);

// Into the open object of a line of metrics.jsonl.
void WriteRollouts(const Rollouts& rollouts, const RewardChain& chain, json::Writer& writer);

}  // namespace retort::host
