// Proximal policy optimisation (Schulman et al., arXiv 1707.06347) with a value head: the clipped
// policy term, the clipped value term and an entropy bonus. Per unmasked token of N in the window,
// with V the value, V_old that at sampling, R the return:
//   clipped policy term + vf_coef / 2 * max((V - R)^2, (V' - R)^2) / N
//   V' = V bounded to V_old - cliprange_value .. V_old + cliprange_value
// Advantages, returns and the KL penalty in the rewards are the host's. Names are those of TRL's
// PPOConfig; value and gradient are torchtune's PPOLoss.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "retort/sdk/policy_loss.h"

namespace {

using retort::sdk::Call;
using retort::sdk::Config;
using retort::sdk::LossSpec;
using retort::sdk::PolicyLoss;
using retort::sdk::PolicyOptions;
using retort::sdk::SequenceBatch;

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "cliprange": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.2,
      "description": "clip range of the ratio"},
    "delta": {"type": "number", "minimum": 0,
      "description": "upper bound of the unclipped ratio (dual clip); absent: none"},
    "log_ratio_clamp": {"type": "number", "minimum": 0, "default": 20,
      "description": "bound of the log of the ratio, on both sides"},
    "vf_coef": {"type": "number", "minimum": 0, "default": 0.1,
      "description": "weight of the value term; 0: no value head"},
    "cliprange_value": {"type": "number", "minimum": 0, "default": 0.2,
      "description": "how far a value may move from the one at sampling"},
    "aggregation": {"type": "string", "default": "dapo", "enum": )" RETORT_SDK_POLICY_AGGREGATIONS
                                R"(,
      "description": "how the policy term is normalised, by the names of loss/grpo"},
    )" RETORT_SDK_POLICY_KEYS R"(
  }
})";

PolicyOptions OptionsOf(const Config& config) {
  PolicyOptions options;
  options.aggregation = retort::sdk::AggregationOf(config.String("aggregation"));
  options.log_ratio_clamp = config.Double("log_ratio_clamp");
  options.surrogate.low = options.surrogate.high = config.Double("cliprange");
  options.surrogate.delta = config.Double("delta", retort::sdk::kUnbounded);
  ReadPolicyKeys(config, &options);
  return options;
}

class Ppo {
 public:
  explicit Ppo(const Config& config)
      : policy_(OptionsOf(config)),
        vf_coef_(config.Double("vf_coef")),
        cliprange_value_(config.Double("cliprange_value")) {}

  LossSpec Spec() const {
    LossSpec spec = policy_.Spec();
    if (vf_coef_ == 0) return spec;
    spec.needs |= RETORT_SEQUENCE_VALUE | RETORT_SEQUENCE_RETURNS;
    spec.optional |= RETORT_SEQUENCE_OLD_VALUE;
    spec.aux_names.insert(spec.aux_names.end(), {"value_loss", "value_clip_ratio"});
    return spec;
  }

  template <class T>
  void Eval(const Call& call, const SequenceBatch<T>& batch) {
    policy_.Eval(call, batch);
    if (vf_coef_ == 0) return;
    for (size_t t = 0; t < batch.n_tokens(); ++t) {
      if (batch.mask[t] != 0) AddValue(batch, t);
    }
  }

 private:
  template <class T>
  void AddValue(const SequenceBatch<T>& batch, size_t t) const {
    const double value = double{batch.value[t]}, target = double{batch.returns[t]};
    double bounded = value;
    if (!batch.old_value.empty()) {
      const double old = double{batch.old_value[t]};
      bounded = std::clamp(value, old - cliprange_value_, old + cliprange_value_);
    }
    const double plain = value - target, cut = bounded - target;
    const bool clipped = cut * cut > plain * plain;  // then V' counts, which doesn't move with V
    const double term = (clipped ? cut * cut : plain * plain) / 2;
    const double weight = vf_coef_ / std::max(1.0, batch.raw->n_tokens_global);
    *batch.loss += weight * term;
    if (!batch.d_value.empty() && !clipped) batch.d_value[t] = static_cast<T>(weight * plain);
    const size_t aux = policy_.n_aux();
    batch.AddAux(aux, term, 1);
    batch.AddAux(aux + 1, clipped ? 1 : 0, 1);
  }

  PolicyLoss policy_;
  double vf_coef_, cliprange_value_;
};

RETORT_SEQUENCE_LOSS("ppo", Ppo, "clipped policy and value losses with an entropy bonus (PPO)",
                     kSchema);

}  // namespace
