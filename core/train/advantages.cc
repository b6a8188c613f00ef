// SPDX-License-Identifier: Apache-2.0
#include "core/train/advantages.h"

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

namespace retort::train {
namespace {

constexpr double kUnmeasured = std::numeric_limits<double>::quiet_NaN();

constexpr std::array<std::pair<std::string_view, Advantage>, 7> kNames = {{
    {"group", Advantage::kGroup},
    {"batch", Advantage::kBatch},
    {"none", Advantage::kNone},
    {"rloo", Advantage::kRloo},
    {"loo_std", Advantage::kLooStd},
    {"gdpo", Advantage::kGdpo},
    {"reinforce_baseline", Advantage::kBaseline},
}};

// Of the measured values; `without` leaves one out.
struct Moments {
  double n = 0, mean = 0, squares = 0;  // squares: about the mean

  Moments(std::span<const double> x, size_t without) {
    for (size_t i = 0; i < x.size(); ++i) {
      if (i == without || std::isnan(x[i])) continue;
      n += 1;
      mean += x[i];
    }
    if (n > 0) mean /= n;
    for (size_t i = 0; i < x.size(); ++i) {
      if (i == without || std::isnan(x[i])) continue;
      squares += (x[i] - mean) * (x[i] - mean);
    }
  }
  explicit Moments(std::span<const double> x) : Moments(x, x.size()) {}

  double Deviation(bool population) const {
    const double degrees = population ? n : n - 1;
    return degrees > 0 ? std::sqrt(squares / degrees) : 0;
  }
};

class Estimator {
 public:
  Estimator(int64_t group_size, const AdvantageOptions& options)
      : group_(static_cast<size_t>(group_size)), options_(options) {}

  // Each by its own group alone.
  std::vector<double> ByGroup(std::span<const double> r, Advantage kind) const {
    std::vector<double> out(r.size(), kUnmeasured);
    for (size_t first = 0; first + group_ <= r.size(); first += group_) {
      const std::span<const double> group = r.subspan(first, group_);
      for (size_t i = 0; i < group_; ++i) {
        if (!std::isnan(group[i])) out[first + i] = One(group, i, kind);
      }
    }
    return out;
  }

  // (x - mean) / (s + eps) over all; keep the mean for what is centred already.
  void Normalise(std::vector<double>& x, bool center, double eps) const {
    const Moments all(x);
    const double scale = all.Deviation(options_.population) + eps;
    for (double& v : x) v = (v - (center ? all.mean : 0)) / scale;
  }

 private:
  double One(std::span<const double> group, size_t i, Advantage kind) const {
    if (kind == Advantage::kRloo || kind == Advantage::kLooStd) {
      const Moments others(group, i);
      if (others.n == 0) return 0;  // nobody to compare with
      const double s = others.Deviation(options_.population);
      const double a = group[i] - others.mean;
      return kind == Advantage::kLooStd && s > 0 ? a / (s + options_.eps) : a;
    }
    const Moments all(group);
    const double a = group[i] - all.mean;
    if (kind != Advantage::kGroup) return a;
    return all.n < 2 ? 0 : a / (all.Deviation(options_.population) + options_.eps);
  }

  size_t group_;
  const AdvantageOptions& options_;
};

// Each reward has its say at its own scale.
std::vector<double> Gdpo(const Rewards& rewards, const Estimator& estimator, double eps) {
  std::vector<double> sum(rewards.total.size(), kUnmeasured);
  for (size_t k = 0; k < rewards.columns.size(); ++k) {
    const std::vector<double> a = estimator.ByGroup(rewards.columns[k], Advantage::kGroup);
    for (size_t i = 0; i < sum.size(); ++i) {
      if (std::isnan(a[i])) continue;
      sum[i] = (std::isnan(sum[i]) ? 0 : sum[i]) + rewards.weights[k] * a[i];
    }
  }
  estimator.Normalise(sum, true, eps);
  return sum;
}

// Population variance, as OpenRLHF whitens.
void WhitenBatch(std::vector<double>& x) {
  constexpr double kLeastVariance = 1e-8;
  const Moments all(x);
  if (all.n == 0) return;
  const double scale = 1 / std::sqrt(std::max(all.squares / all.n, kLeastVariance));
  for (double& v : x) v = (v - all.mean) * scale;
}

}  // namespace

Result<Advantage> ParseAdvantage(std::string_view name) {
  std::string known;
  for (const auto& [text, kind] : kNames) {
    if (text == name) return kind;
    known += (known.empty() ? "" : ", ") + std::string(text);
  }
  return InvalidArgument("advantage '" + std::string(name) + "' is not one of " + known);
}

std::vector<double> Advantages(const Rewards& rewards, const AdvantageOptions& options) {
  const Estimator estimator(rewards.group_size, options);
  switch (options.kind) {
    case Advantage::kGdpo: return Gdpo(rewards, estimator, options.eps);
    case Advantage::kBatch: {
      // The deviation is that of the rewards, not of what is left after the groups' means.
      std::vector<double> a = estimator.ByGroup(rewards.total, Advantage::kNone);
      const double s = Moments(rewards.total).Deviation(options.population) + options.eps;
      for (double& v : a) v /= s;
      return a;
    }
    case Advantage::kBaseline: {
      std::vector<double> a = estimator.ByGroup(rewards.total, Advantage::kNone);
      WhitenBatch(a);
      return a;
    }
    default: return estimator.ByGroup(rewards.total, options.kind);
  }
}

std::vector<double> Gae::Run(std::span<const double> rewards, std::span<const double> values,
                             std::span<const uint8_t> mask) const {
  std::vector<double> advantages(rewards.size(), 0);
  double next_value = 0, next_advantage = 0;
  for (size_t t = rewards.size(); t-- > 0;) {
    if (mask[t] == 0) continue;
    const double delta = rewards[t] + gamma * next_value - values[t];
    next_advantage = advantages[t] = delta + gamma * lambda * next_advantage;
    next_value = values[t];
  }
  return advantages;
}

void Whiten(std::span<double> x, std::span<const uint8_t> mask, bool keep_mean) {
  std::vector<double> kept;
  for (size_t t = 0; t < x.size(); ++t) {
    if (mask[t] != 0) kept.push_back(x[t]);
  }
  if (kept.size() < 2) return;
  const Moments all(kept);
  const double s = all.Deviation(false), scale = 1 / std::sqrt(s * s + 1e-8);
  for (size_t t = 0; t < x.size(); ++t) {
    if (mask[t] != 0) x[t] = (x[t] - all.mean) * scale + (keep_mean ? all.mean : 0);
  }
}

}  // namespace retort::train
