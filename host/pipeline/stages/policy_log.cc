// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stages/policy_log.h"

#include <cmath>
#include <limits>
#include <optional>
#include <span>

namespace retort::host {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::string NumberText(double value) {
  json::Writer writer;
  if (std::isnan(value)) return "null";
  return writer.Double(value).Take();
}

size_t GroupSizeOf(const Rollouts& rollouts) {
  return rollouts.rewards.empty() ? 1 : rollouts.samples.size() / rollouts.rewards.size();
}

// Of the values that aren't NaN; n - 1 in the deviation, which is 0 of one value.
struct Spread {
  double n = 0, mean = 0, deviation = 0;
};

Spread SpreadOf(std::span<const double> values) {
  Spread out;
  double squares = 0;
  for (const double v : values) {
    if (std::isnan(v)) continue;
    out.n += 1;
    const double from_mean = v - out.mean;
    out.mean += from_mean / out.n;
    squares += from_mean * (v - out.mean);
  }
  if (out.n > 1) out.deviation = std::sqrt(squares / (out.n - 1));
  return out;
}

// {name: score} of a sample's rewards behind gates, as they were before.
std::string UngatedText(const RewardTable& table, const RewardChain& chain, size_t sample) {
  json::Writer writer;
  writer.BeginObject();
  for (size_t c = 0; c < table.n_rewards; ++c) {
    if (!chain.is_gated(c)) continue;
    writer.Field(chain.names()[c], table.ungated[sample * table.n_rewards + c]);
  }
  return writer.EndObject().Take();
}

// Mean over the groups of the deviation of their rewards.
double MeanDeviation(std::span<const double> total, size_t group_size) {
  std::vector<double> deviations;
  for (size_t first = 0; first < total.size(); first += group_size) {
    deviations.push_back(SpreadOf(total.subspan(first, group_size)).deviation);
  }
  return MeanOf(deviations);
}

// TRL's names: over the samples that a reward measured, null if there are none.
void WriteRewards(const Rollouts& rollouts, const RewardChain& chain, json::Writer& writer) {
  const std::vector<std::vector<double>> scores = ScoresByReward(rollouts, chain.size());
  for (size_t c = 0; c < scores.size(); ++c) {
    const std::string name = "rewards/" + chain.names()[c];
    const Spread spread = SpreadOf(scores[c]);
    writer.Field(name + "/mean", spread.n > 0 ? spread.mean : kNaN);
    writer.Field(name + "/std", spread.n > 0 ? spread.deviation : kNaN);
    if (!chain.is_gated(c)) continue;
    std::vector<double> ungated;
    for (const RewardTable& table : rollouts.rewards) {
      for (size_t i = 0; i < table.n_samples; ++i) {
        ungated.push_back(table.ungated[i * table.n_rewards + c]);
      }
    }
    const Spread before = SpreadOf(ungated);
    writer.Field(name + "/ungated_mean", before.n > 0 ? before.mean : kNaN);
  }
}

}  // namespace

double MeanOf(const std::vector<double>& values) { return SpreadOf(values).mean; }

std::vector<std::vector<double>> ScoresByReward(const Rollouts& rollouts, size_t n_rewards) {
  std::vector<std::vector<double>> scores(n_rewards);
  for (const RewardTable& table : rollouts.rewards) {
    for (size_t i = 0; i < table.n_samples; ++i) {
      for (size_t c = 0; c < n_rewards; ++c) scores[c].push_back(table.score_at(i, c));
    }
  }
  return scores;
}

Status AppendSamples(const Rollouts& rollouts, const RewardChain& chain, int64_t step,
                     io::JsonlAppender* file) {
  const size_t size = GroupSizeOf(rollouts);
  for (size_t i = 0; i < rollouts.samples.size(); ++i) {
    data::Sample sample = rollouts.samples[i];
    const RewardTable& table = rollouts.rewards[i / size];
    for (size_t c = 0; c < table.n_rewards; ++c) {
      const double score = table.score_at(i % size, c);
      sample.rewards.push_back(
          {.name = chain.names()[c],
           .value = std::isnan(score) ? std::nullopt : std::optional<double>(score)});
    }
    if (!table.ungated.empty()) {
      sample.extra.push_back({"ungated", UngatedText(table, chain, i % size)});
    }
    sample.extra.push_back({"step", std::to_string(step)});
    sample.extra.push_back({"reward", NumberText(rollouts.total[i])});
    sample.extra.push_back({"advantage", NumberText(rollouts.advantage[i])});
    RETORT_RETURN_IF_ERROR(file->Append(data::SampleToJson(sample)));
  }
  return OkStatus();
}

void WriteRollouts(const Rollouts& rollouts, const RewardChain& chain, json::Writer& writer) {
  std::vector<double> lengths, truncated, trained;
  for (size_t i = 0; i < rollouts.samples.size(); ++i) {
    lengths.push_back(static_cast<double>(rollouts.samples[i].completion_ids.size()));
    truncated.push_back(rollouts.samples[i].finish == "length" ? 1 : 0);
    trained.push_back(std::isnan(rollouts.advantage[i]) || rollouts.advantage[i] == 0 ? 0 : 1);
  }
  writer.Field("reward", MeanOf(rollouts.total));
  writer.Field("reward_std", MeanDeviation(rollouts.total, GroupSizeOf(rollouts)));
  WriteRewards(rollouts, chain, writer);
  writer.Field("frac_reward_zero_std", static_cast<double>(rollouts.equal_groups) /
                                           static_cast<double>(rollouts.drawn_groups));
  writer.Field("completions/mean_length", MeanOf(lengths));
  writer.Field("completions/clipped_ratio", MeanOf(truncated));
  writer.Field("frac_advantage_nonzero", MeanOf(trained));
}

}  // namespace retort::host
