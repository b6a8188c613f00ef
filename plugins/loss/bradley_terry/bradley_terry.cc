// Reward models from preferences (Bradley and Terry 1952; Ouyang et al., arXiv 2203.02155, equation
// 1). A sequence's reward r is the value head's at its last unmasked token. Per pair, with m the
// difference of the targets if `margin`, else 0:
//   -log sigmoid(r_better - r_worse - m) + center_rewards_coefficient * (r_better + r_worse)^2
// The second term keeps rewards near 0 (arXiv 2312.09244). Names and numbers are TRL's
// RewardTrainer's. SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <optional>

#include "retort/sdk/pairs.h"

namespace {

using retort::sdk::Call;
using retort::sdk::Config;
using retort::sdk::LossSpec;
using retort::sdk::SequenceBatch;

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "center_rewards_coefficient": {"type": "number", "minimum": 0, "default": 0,
      "description": "weight of the squared sum of a pair's rewards"},
    "margin": {"type": "boolean", "default": false,
      "description": "rewards are to differ by as much as the targets do"}
  }
})";

enum Aux : size_t { kAccuracy, kMargin, kReward };

class BradleyTerry {
 public:
  explicit BradleyTerry(const Config& config)
      : center_(config.Double("center_rewards_coefficient")), margin_(config.Bool("margin")) {}

  LossSpec Spec() const {
    return {
        .flags = RETORT_LOSS_F64,
        .needs = RETORT_SEQUENCE_VALUE_AFTER | RETORT_SEQUENCE_GROUP_ID | RETORT_SEQUENCE_TARGET,
        .grain = RETORT_GRAIN_GROUP,  // both answers to a prompt are in one call
        .aux_names = {"accuracy", "margin", "mean_reward"}};
  }

  template <class T>
  void Eval(const Call& call, const SequenceBatch<T>& batch) {
    ForEachPair(
        batch, [&](size_t s) { return Last(batch, s).has_value(); },
        [&](size_t better, size_t worse, double share) {
          call.ThrowIfCancelled();
          const double wanted =
              margin_ ? double{batch.target[better]} - double{batch.target[worse]} : 0;
          AddPair(batch, *Last(batch, better), *Last(batch, worse), wanted, share);
        });
  }

 private:
  // Its last unmasked token.
  template <class T>
  static std::optional<size_t> Last(const SequenceBatch<T>& batch, size_t s) {
    for (size_t t = batch.end(s); t > batch.begin(s); --t) {
      if (batch.mask[t - 1] != 0) return t - 1;
    }
    return std::nullopt;
  }

  template <class T>
  void AddPair(const SequenceBatch<T>& batch, size_t better, size_t worse, double wanted,
               double share) const {
    const double high = double{batch.value[better]}, low = double{batch.value[worse]};
    const double x = high - low - wanted, sum = high + low;
    *batch.loss += share * (retort::sdk::NegLogSigmoid(x) + center_ * sum * sum);
    const double slope = share * retort::sdk::NegLogSigmoidSlope(x);
    AddSlope(batch, better, slope + 2 * share * center_ * sum);
    AddSlope(batch, worse, -slope + 2 * share * center_ * sum);
    batch.AddAux(kAccuracy, high > low ? 1 : 0, 1);
    batch.AddAux(kMargin, high - low, 1);
    batch.AddAux(kReward, high + low, 2);
  }
  template <class T>
  static void AddSlope(const SequenceBatch<T>& batch, size_t t, double slope) {
    if (!batch.d_value.empty()) {
      batch.d_value[t] = static_cast<T>(double{batch.d_value[t]} + slope);
    }
  }

  double center_;
  bool margin_;
};

RETORT_SEQUENCE_LOSS("bradley_terry", BradleyTerry, "reward models from pairs of answers", kSchema);

}  // namespace
