// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stages/policy_log.h"

#include <cmath>
#include <optional>

namespace retort::host {
namespace {

std::string NumberText(double value) {
  json::Writer writer;
  if (std::isnan(value)) return "null";
  return writer.Double(value).Take();
}

size_t GroupSizeOf(const Rollouts& rollouts) {
  return rollouts.rewards.empty() ? 1 : rollouts.samples.size() / rollouts.rewards.size();
}

// Mean over the groups of the deviation of their rewards.
double SpreadOf(const std::vector<double>& total, size_t group_size) {
  std::vector<double> spreads;
  for (size_t first = 0; first < total.size(); first += group_size) {
    const auto begin = total.begin() + static_cast<int64_t>(first);
    const std::vector<double> group(begin, begin + static_cast<int64_t>(group_size));
    const double mean = MeanOf(group);
    double squares = 0, n = 0;
    for (const double v : group) {
      if (std::isnan(v)) continue;
      squares += (v - mean) * (v - mean);
      n += 1;
    }
    spreads.push_back(n > 1 ? std::sqrt(squares / (n - 1)) : 0);
  }
  return MeanOf(spreads);
}

}  // namespace

double MeanOf(const std::vector<double>& values) {
  double sum = 0, n = 0;
  for (const double v : values) {
    if (std::isnan(v)) continue;
    sum += v;
    n += 1;
  }
  return n > 0 ? sum / n : 0;
}

std::vector<std::vector<double>> ScoresByReward(const Rollouts& rollouts, size_t n_rewards) {
  std::vector<std::vector<double>> scores(n_rewards);
  for (const RewardTable& table : rollouts.rewards) {
    for (size_t i = 0; i < table.n_samples; ++i) {
      for (size_t c = 0; c < n_rewards; ++c) scores[c].push_back(table.score_at(i, c));
    }
  }
  return scores;
}

Status AppendSamples(const Rollouts& rollouts, const std::vector<std::string>& rewards,
                     int64_t step, io::JsonlAppender* file) {
  const size_t size = GroupSizeOf(rollouts);
  for (size_t i = 0; i < rollouts.samples.size(); ++i) {
    data::Sample sample = rollouts.samples[i];
    const RewardTable& table = rollouts.rewards[i / size];
    for (size_t c = 0; c < table.n_rewards; ++c) {
      const double score = table.score_at(i % size, c);
      sample.rewards.push_back(
          {.name = rewards[c],
           .value = std::isnan(score) ? std::nullopt : std::optional<double>(score)});
    }
    sample.extra.push_back({"step", std::to_string(step)});
    sample.extra.push_back({"reward", NumberText(rollouts.total[i])});
    sample.extra.push_back({"advantage", NumberText(rollouts.advantage[i])});
    RETORT_RETURN_IF_ERROR(file->Append(data::SampleToJson(sample)));
  }
  return OkStatus();
}

void WriteRollouts(const Rollouts& rollouts, const std::vector<std::string>& rewards,
                   json::Writer& writer) {
  std::vector<double> lengths, truncated, trained;
  for (size_t i = 0; i < rollouts.samples.size(); ++i) {
    lengths.push_back(static_cast<double>(rollouts.samples[i].completion_ids.size()));
    truncated.push_back(rollouts.samples[i].finish == "length" ? 1 : 0);
    trained.push_back(std::isnan(rollouts.advantage[i]) || rollouts.advantage[i] == 0 ? 0 : 1);
  }
  writer.Field("reward", MeanOf(rollouts.total));
  writer.Field("reward_std", SpreadOf(rollouts.total, GroupSizeOf(rollouts)));
  const std::vector<std::vector<double>> scores = ScoresByReward(rollouts, rewards.size());
  for (size_t c = 0; c < scores.size(); ++c) {
    writer.Field("rewards/" + rewards[c] + "/mean", MeanOf(scores[c]));
  }
  writer.Field("frac_reward_zero_std", static_cast<double>(rollouts.equal_groups) /
                                           static_cast<double>(rollouts.drawn_groups));
  writer.Field("completions/mean_length", MeanOf(lengths));
  writer.Field("completions/clipped_ratio", MeanOf(truncated));
  writer.Field("frac_advantage_nonzero", MeanOf(trained));
}

}  // namespace retort::host
