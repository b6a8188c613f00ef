// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stages/token_advantages.h"

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

namespace retort::host {
namespace {

// Completion tokens of all samples, one sample after the other.
struct Tokens {
  std::vector<size_t> begin;  // of each sample, and the end of the last
  std::vector<double> reward, value, advantage, returns;
  std::vector<uint8_t> mask;
  template <class T>
  std::span<T> Of(std::vector<T>& all, size_t sample) const {
    return std::span(all).subspan(begin[sample], begin[sample + 1] - begin[sample]);
  }
};

void AddSample(const TokenAdvantageOptions& options, const Rollouts& rollouts,
               const TokenValues& values, size_t i, Tokens* tokens) {
  const data::Sample& sample = rollouts.samples[i];
  const size_t n = sample.completion_ids.size();
  const auto first = static_cast<size_t>(sample.n_prefix);
  const bool trained = !std::isnan(rollouts.advantage[i]);
  for (size_t t = 0; t < n; ++t) {
    double reward = 0;
    if (options.kl_coef != 0) {
      reward = -options.kl_coef * (static_cast<double>(values.old_logp[i][t]) -
                                   static_cast<double>(values.ref_logp[i][t]));
    }
    const bool counts = trained && t >= first;
    if (counts && t + 1 == n) reward += rollouts.total[i];
    tokens->reward.push_back(counts ? reward : 0);
    tokens->value.push_back(static_cast<double>(values.old_value[i][t]));
    tokens->mask.push_back(counts ? 1 : 0);
  }
  tokens->begin.push_back(tokens->reward.size());
}

double MaskedMean(std::span<const double> x, std::span<const uint8_t> mask) {
  double sum = 0, n = 0;
  for (size_t t = 0; t < x.size(); ++t) {
    if (mask[t] == 0) continue;
    sum += x[t];
    n += 1;
  }
  return n > 0 ? sum / n : 0;
}

std::vector<float> Narrow(std::span<const double> x) {
  std::vector<float> out;
  for (const double v : x) out.push_back(static_cast<float>(v));
  return out;
}

}  // namespace

void EstimateAdvantages(const TokenAdvantageOptions& options, Rollouts* rollouts,
                        TokenValues* values) {
  const size_t n = rollouts->samples.size();
  Tokens tokens;
  tokens.begin.push_back(0);
  for (size_t i = 0; i < n; ++i) AddSample(options, *rollouts, *values, i, &tokens);
  if (options.whiten_rewards) train::Whiten(tokens.reward, tokens.mask, /*keep_mean=*/true);
  for (size_t i = 0; i < n; ++i) {
    const std::span<const double> value = tokens.Of(tokens.value, i);
    const std::span<const uint8_t> mask = tokens.Of(tokens.mask, i);
    const std::vector<double> advantage = options.gae.Run(tokens.Of(tokens.reward, i), value, mask);
    for (size_t t = 0; t < advantage.size(); ++t) {
      tokens.advantage.push_back(advantage[t]);
      tokens.returns.push_back(mask[t] != 0 ? advantage[t] + value[t] : 0);
    }
  }
  train::Whiten(tokens.advantage, tokens.mask);
  values->advantage.clear();
  values->returns.clear();
  for (size_t i = 0; i < n; ++i) {
    const std::span<const double> advantage = tokens.Of(tokens.advantage, i);
    values->advantage.push_back(Narrow(advantage));
    values->returns.push_back(Narrow(tokens.Of(tokens.returns, i)));
    if (std::isnan(rollouts->advantage[i])) continue;
    rollouts->advantage[i] = MaskedMean(advantage, tokens.Of(tokens.mask, i));
  }
}

}  // namespace retort::host
