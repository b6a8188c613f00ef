// The plain policy gradient (Williams 1992): -A * logp per token, A the return less a baseline,
// which the host has taken off. Tokens must be the policy's own, or their sampler's probabilities
// known. SPDX-License-Identifier: Apache-2.0
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
    "aggregation": {"type": "string", "default": "dapo", "enum": )" RETORT_SDK_POLICY_AGGREGATIONS
                                R"(,
      "description": "how the sum over tokens is normalised, by the names of loss/grpo"},
    )" RETORT_SDK_POLICY_KEYS R"(
  }
})";

PolicyOptions OptionsOf(const Config& config) {
  PolicyOptions options;
  options.surrogate.kind = retort::sdk::SurrogateKind::kReinforce;
  options.aggregation = retort::sdk::AggregationOf(config.String("aggregation"));
  ReadPolicyKeys(config, &options);
  return options;
}

class Reinforce {
 public:
  explicit Reinforce(const Config& config) : policy_(OptionsOf(config)) {}
  LossSpec Spec() const { return policy_.Spec(); }
  template <class T>
  void Eval(const Call& call, const SequenceBatch<T>& batch) {
    policy_.Eval(call, batch);
  }

 private:
  retort::sdk::PolicyLoss policy_;
};

RETORT_SEQUENCE_LOSS("reinforce", Reinforce, "plain policy gradient with a baseline", kSchema);

}  // namespace
