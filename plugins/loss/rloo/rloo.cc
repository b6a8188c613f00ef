// Policy loss of REINFORCE leave-one-out (Ahmadian et al., arXiv 2402.14740) as TRL's RLOOTrainer
// has it: the clipped surrogate over the ratio of the whole answer, averaged over sequences. The
// advantages (reward less the mean of the group's others, KL penalty included) are the host's.
// SPDX-License-Identifier: Apache-2.0
#include "retort/sdk/policy_loss.h"

namespace {

using retort::sdk::Call;
using retort::sdk::Config;
using retort::sdk::LossSpec;
using retort::sdk::PolicyOptions;
using retort::sdk::SequenceBatch;

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "epsilon": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.2,
      "description": "lower clip range of the ratio: 1 - epsilon"},
    "epsilon_high": {"type": "number", "minimum": 0,
      "description": "upper clip range, 1 + epsilon_high; absent: epsilon"},
    "log_ratio_clamp": {"type": "number", "minimum": 0, "default": 20,
      "description": "bound of the log of the ratio, on both sides"},
    )" RETORT_SDK_POLICY_KEYS R"(
  }
})";

PolicyOptions OptionsOf(const Config& config) {
  PolicyOptions options;
  options.level = retort::sdk::RatioLevel::kSequenceSum;
  options.aggregation = retort::sdk::Aggregation::kGrpo;  // all tokens of a sequence have its loss
  options.log_ratio_clamp = config.Double("log_ratio_clamp");
  options.surrogate.low = config.Double("epsilon");
  options.surrogate.high = config.Double("epsilon_high", options.surrogate.low);
  ReadPolicyKeys(config, &options);
  return options;
}

class Rloo {
 public:
  explicit Rloo(const Config& config) : policy_(OptionsOf(config)) {}
  LossSpec Spec() const { return policy_.Spec(); }
  template <class T>
  void Eval(const Call& call, const SequenceBatch<T>& batch) {
    policy_.Eval(call, batch);
  }

 private:
  retort::sdk::PolicyLoss policy_;
};

RETORT_SEQUENCE_LOSS("rloo", Rloo, "policy loss over whole answers (TRL's RLOO)", kSchema);

}  // namespace
