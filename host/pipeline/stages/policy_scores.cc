// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stages/policy_scores.h"

#include <cmath>
#include <utility>

namespace retort::host {

double MeanDivergence(const Rollouts& rollouts, std::span<const std::vector<float>> old,
                      std::span<const size_t> samples, std::span<const std::vector<float>> now) {
  double sum = 0, n = 0;
  for (size_t s = 0; s < samples.size(); ++s) {
    const size_t i = samples[s];
    if (std::isnan(rollouts.advantage[i])) continue;
    for (auto t = static_cast<size_t>(rollouts.samples[i].n_prefix); t < now[s].size(); ++t) {
      const double d = static_cast<double>(now[s][t]) - static_cast<double>(old[i][t]);
      sum += std::expm1(d) - d;
      n += 1;
    }
  }
  return n > 0 ? sum / n : 0;
}

Result<TokenValues> PolicyScores::Measure(const Rollouts& rollouts) const {
  TokenValues values;
  const bool several = config_.steps_per_generation * config_.num_iterations > 1;
  const bool entropy = config_.top_entropy_quantile < 1;
  const bool divergence = config_.kl_coef > 0, want_values = config_.algorithm == "ppo";
  const std::vector<std::vector<int32_t>> ids = JoinedIds(rollouts.samples);
  const auto score = [&](engine::Model& model, int32_t adapter, bool want_entropy,
                         bool values_too) -> Result<std::vector<engine::ScoreResult>> {
    std::vector<engine::ScoreRequest> requests =
        ScoreRequests(rollouts.samples, ids, adapter, config_.sampling.temperature);
    for (engine::ScoreRequest& request : requests) {
      request.want_entropy = want_entropy;
      request.want_values = values_too;
    }
    return model.Score(requests, 0, run_.options->cancel, {});
  };
  if (several || entropy || divergence || want_values) {
    RETORT_ASSIGN_OR_RETURN(std::vector<engine::ScoreResult> results,
                            score(trainer_.model(), trainer_.adapter(), entropy, want_values));
    for (engine::ScoreResult& result : results) {
      values.old_logp.push_back(std::move(result.logp));
      if (entropy) values.entropy.push_back(std::move(result.entropy));
      if (want_values) values.old_value.push_back(std::move(result.values));
    }
  }
  if (reference_ != nullptr) {
    RETORT_ASSIGN_OR_RETURN(std::vector<engine::ScoreResult> results,
                            score(reference_->weights(), reference_->adapter(), false, false));
    for (engine::ScoreResult& result : results) values.ref_logp.push_back(std::move(result.logp));
  }
  return values;
}

Result<double> PolicyScores::Divergence(const Rollouts& rollouts, const TokenValues& values,
                                        std::span<const size_t> groups) const {
  if (groups.empty()) return 0.0;
  const auto size = static_cast<size_t>(config_.num_generations);
  std::vector<size_t> samples;
  std::vector<data::Sample> scored;
  for (const size_t group : groups) {
    for (size_t i = group * size; i < (group + 1) * size; ++i) {
      samples.push_back(i);
      scored.push_back(rollouts.samples[i]);
    }
  }
  const std::vector<std::vector<int32_t>> ids = JoinedIds(scored);
  RETORT_ASSIGN_OR_RETURN(std::vector<engine::ScoreResult> results,
                          trainer_.model().Score(ScoreRequests(scored, ids, trainer_.adapter(),
                                                               config_.sampling.temperature),
                                                 0, nullptr, {}));
  std::vector<std::vector<float>> now;
  for (engine::ScoreResult& result : results) now.push_back(std::move(result.logp));
  return MeanDivergence(rollouts, values.old_logp, samples, now);
}

}  // namespace retort::host
