// Policy optimisation with group-relative advantages (Shao et al., arXiv 2402.03300): names and
// semantics are those of TRL's GRPOConfig. The loss type chooses the surrogate of the policy
// gradient and how tokens are averaged; formulas and their sources are in retort/sdk/policy_terms.h
// and policy_loss.h.
//   grpo, bnpo, dr_grpo, dapo, luspo   the clipped surrogate, averaged as the name says
//   cispo                              averaged as dapo
//   sapo                               averaged as grpo
// GSPO is grpo at level "sequence". A dual clip (for negative advantages) is delta.
// SPDX-License-Identifier: Apache-2.0
#include <string_view>

#include "retort/sdk/policy_loss.h"

namespace {

using retort::sdk::Aggregation;
using retort::sdk::AggregationOf;
using retort::sdk::Call;
using retort::sdk::Config;
using retort::sdk::Failure;
using retort::sdk::LossSpec;
using retort::sdk::PolicyOptions;
using retort::sdk::RatioLevel;
using retort::sdk::SequenceBatch;
using retort::sdk::SurrogateKind;

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "loss_type": {"type": "string", "default": "dapo",
      "enum": ["grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo"],
      "description": "the surrogate, and how the sum over tokens is normalised"},
    "aggregation": {"type": "string", "enum": )" RETORT_SDK_POLICY_AGGREGATIONS R"(,
      "description": "normalise otherwise than loss_type says"},
    "epsilon": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.2,
      "description": "lower clip range of the ratio: 1 - epsilon"},
    "epsilon_high": {"type": "number", "minimum": 0,
      "description": "upper clip range, 1 + epsilon_high; absent: epsilon. cispo: the upper bound itself; absent: 5"},
    "delta": {"type": "number", "minimum": 0,
      "description": "upper bound of the unclipped ratio (two-sided clipping); absent: none"},
    "cispo_min": {"type": "number", "minimum": 0, "default": 0,
      "description": "cispo: lower bound of the ratio"},
    "sapo_temperature_pos": {"type": "number", "minimum": 0.001, "default": 1,
      "description": "sapo: steepness of the gate for positive advantages"},
    "sapo_temperature_neg": {"type": "number", "minimum": 0.001, "default": 1.05,
      "description": "sapo: for the others"},
    "importance_sampling_level": {"type": "string", "default": "token",
      "enum": ["token", "sequence", "sequence_sum"],
      "description": "a ratio per token, or per sequence: the geometric mean or the product"},
    "log_ratio_clamp": {"type": "number", "minimum": 0, "default": 20,
      "description": "bound of the log of the ratio, on both sides"},
    "use_bias_correction_kl": {"type": "boolean", "default": false,
      "description": "multiply the KL estimate by the ratio"},
    )" RETORT_SDK_POLICY_KEYS R"(
  }
})";

RatioLevel LevelOf(std::string_view name) {
  if (name == "sequence") return RatioLevel::kSequence;
  return name == "token" ? RatioLevel::kToken : RatioLevel::kSequenceSum;
}

PolicyOptions OptionsOf(const Config& config) {
  const std::string_view type = config.String("loss_type");
  PolicyOptions options;
  options.aggregation = AggregationOf(type == "sapo" ? "grpo" : type);  // cispo: as dapo
  if (config["aggregation"]) options.aggregation = AggregationOf(config.String("aggregation"));
  options.level = LevelOf(config.String("importance_sampling_level"));
  options.log_ratio_clamp = config.Double("log_ratio_clamp");
  options.kl_bias_correction = config.Bool("use_bias_correction_kl");
  auto& surrogate = options.surrogate;
  surrogate.low = config.Double("epsilon");
  surrogate.high = config.Double("epsilon_high", surrogate.low);
  surrogate.delta = config.Double("delta", retort::sdk::kUnbounded);
  surrogate.tau_positive = config.Double("sapo_temperature_pos");
  surrogate.tau_negative = config.Double("sapo_temperature_neg");
  if (type == "sapo") surrogate.kind = SurrogateKind::kSapo;
  if (type == "cispo") {
    surrogate.kind = SurrogateKind::kCispo;
    surrogate.low = config.Double("cispo_min");
    surrogate.high = config.Double("epsilon_high", 5);
    if (surrogate.low > surrogate.high) {
      throw Failure(RETORT_INVALID_ARGUMENT, "/cispo_min: must not be above epsilon_high");
    }
  }
  ReadPolicyKeys(config, &options);
  return options;
}

class Grpo {
 public:
  explicit Grpo(const Config& config) : policy_(OptionsOf(config)) {}
  LossSpec Spec() const { return policy_.Spec(); }
  template <class T>
  void Eval(const Call& call, const SequenceBatch<T>& batch) {
    policy_.Eval(call, batch);
  }

 private:
  retort::sdk::PolicyLoss policy_;
};

RETORT_SEQUENCE_LOSS("grpo", Grpo,
                     "policy loss with group-relative advantages (TRL's GRPO, GSPO, CISPO, SAPO)",
                     kSchema);

}  // namespace
