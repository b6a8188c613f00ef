// Policy losses over packed sequences, from the pieces of policy_terms.h. A plugin chooses the
// pieces and hands the batch over:
//   class MyLoss {
//     explicit MyLoss(const Config& config) : policy_(OptionsOf(config)) {}
//     LossSpec Spec() const { return policy_.Spec(); }
//     template <class T> void Eval(const Call& c, const SequenceBatch<T>& b) { policy_.Eval(c, b);
//     }
// Per unmasked token, with w its weight under the aggregation and L the log of the ratio:
//   (surrogate(L, logp, A) * policy_weight * rollout weight + beta * kl) * w
// and over the call less entropy_coef * (mean entropy / accumulation steps). All in f64.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_POLICY_LOSS_H_
#define RETORT_SDK_POLICY_LOSS_H_

#include <algorithm>
#include <cmath>
#include <span>

#include "retort/sdk/policy_terms.h"
#include "retort/sdk/sequence_loss.h"

namespace retort::sdk {

struct PolicyOptions {
  Surrogate surrogate;
  RatioLevel level = RatioLevel::kToken;
  double log_ratio_clamp = 20;  // bound of |L|; beyond it the ratio is constant
  Aggregation aggregation = Aggregation::kDapo;
  bool count_masked = true;
  double beta = 0;  // 0: no reference
  KlEstimator kl;
  bool kl_bias_correction = false;  // multiply the KL estimate by the ratio
  RolloutCorrection rollout;
  double entropy_coef = 0;
};

// What most of them have in common: keys of a schema's "properties", and their reading.
#define RETORT_SDK_POLICY_KEYS                                                                  \
  R"("count_masked": {"type": "boolean", "default": true, )"                                    \
  R"("description": "sequences without an unmasked token count in means over sequences"}, )"    \
  R"("beta": {"type": "number", "minimum": 0, "default": 0, )"                                  \
  R"("description": "weight of the KL divergence to the reference; 0: no reference"}, )"        \
  R"("kl_estimator": {"type": "string", "enum": ["k1", "k2", "k3", "k3+"], "default": "k3", )"  \
  R"("description": "k3+ has the value of k3 and the gradient of k2"}, )"                       \
  R"("kl_clamp": {"type": "number", "minimum": 0, "default": 20, )"                             \
  R"("description": "bound of the log ratio to the reference, on both sides"}, )"               \
  R"("kl_max": {"type": "number", "minimum": 0, )"                                              \
  R"("description": "bound of the estimate, on both sides; absent: none"}, )"                   \
  R"("rollout_is": {"type": "string", "default": "sequence_mask", )"                            \
  R"("enum": ["none", "sequence_mask", "sequence_truncate", "token_mask", "token_truncate"], )" \
  R"("description": "weight by old / behaviour probability, if the sampler's are known"}, )"    \
  R"("rollout_is_max": {"type": "number", "minimum": 0, "default": 3, )"                        \
  R"("description": "above it a weight is 0 with mask, cut with truncate"}, )"                  \
  R"("rollout_is_min": {"type": "number", "minimum": 0, "default": 0, )"                        \
  R"("description": "below it likewise"}, )"                                                    \
  R"("entropy_coef": {"type": "number", "minimum": 0, "default": 0, )"                          \
  R"("description": "weight of the entropy bonus"})"
#define RETORT_SDK_POLICY_AGGREGATIONS R"(["grpo", "bnpo", "dr_grpo", "dapo", "luspo"])"

inline void ReadPolicyKeys(const Config& config, PolicyOptions* options) {
  options->count_masked = config.Bool("count_masked");
  options->beta = config.Double("beta");
  options->kl = {.kind = KlKindOf(config.String("kl_estimator")),
                 .clamp = config.Double("kl_clamp"),
                 .max = config.Double("kl_max", kUnbounded)};
  options->rollout = {.kind = RolloutKindOf(config.String("rollout_is")),
                      .min = config.Double("rollout_is_min"),
                      .max = config.Double("rollout_is_max")};
  options->entropy_coef = config.Double("entropy_coef");
  if (options->rollout.min <= options->rollout.max) return;
  throw Failure(RETORT_INVALID_ARGUMENT, "/rollout_is_max: must not be below rollout_is_min");
}

class PolicyLoss {
 public:
  explicit PolicyLoss(const PolicyOptions& options) : options_(options) {
    const SurrogateKind kind = options.surrogate.kind;
    if (kind == SurrogateKind::kClip) {
      aux_names_ = {"clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean"};
    } else if (kind == SurrogateKind::kCispo) {
      aux_names_ = {"cispo_clip_ratio"};
    }
    aux_entropy_ = AddName("entropy");
    if (options.beta > 0) aux_kl_ = AddName("kl");
    if (options.rollout.there()) {
      aux_rollout_ = AddName("sampling/importance_sampling_ratio/mean");
    }
  }

  // Inputs and aux values; a plugin may add to them.
  LossSpec Spec() const {
    uint64_t needs = RETORT_SEQUENCE_ADVANTAGE, optional = RETORT_SEQUENCE_POLICY_WEIGHT;
    if (UsesOld()) optional |= RETORT_SEQUENCE_OLD_LOGP;
    if (options_.beta > 0) needs |= RETORT_SEQUENCE_REF_LOGP;
    if (options_.rollout.there()) optional |= RETORT_SEQUENCE_BEHAVIOUR_LOGP;
    (options_.entropy_coef > 0 ? needs : optional) |= RETORT_SEQUENCE_ENTROPY;
    // Parts are held constant: cispo's ratio, k3+'s excess over k2.
    const bool held = options_.surrogate.kind == SurrogateKind::kCispo ||
                      (options_.beta > 0 && options_.kl.kind == KlKind::kK3Plus);
    return {.flags = RETORT_LOSS_F64 | (held ? RETORT_LOSS_SURROGATE : 0U),
            .needs = needs,
            .optional = optional,
            .aux_names = aux_names_};
  }

  size_t n_aux() const { return aux_names_.size(); }

  template <class T>
  void Eval(const Call& call, const SequenceBatch<T>& batch) const {
    const double n_call = CountScored(batch, 0, batch.n_tokens());
    for (size_t s = 0; s < batch.n_sequences(); ++s) {
      call.ThrowIfCancelled();
      const double n = CountScored(batch, batch.begin(s), batch.end(s));
      AddSequence(batch, s, n,
                  TokenWeight(options_.aggregation, *batch.raw, n, n_call, options_.count_masked));
    }
    AddEntropy(batch);
  }

  template <class T>
  static double CountScored(const SequenceBatch<T>& batch, size_t begin, size_t end) {
    double n = 0;
    for (size_t t = begin; t < end; ++t) n += batch.mask[t] != 0 ? 1 : 0;
    return n;
  }

 private:
  // The log of a ratio, bounded, and whether it still moves.
  struct Bounded {
    double log = 0;
    bool moves = true;
  };
  Bounded Bound(double log_ratio) const {
    const double at = std::clamp(log_ratio, -options_.log_ratio_clamp, options_.log_ratio_clamp);
    return {at, at == log_ratio};
  }

  size_t AddName(const char* name) {
    aux_names_.push_back(name);
    return aux_names_.size() - 1;
  }
  bool UsesOld() const {
    return options_.surrogate.kind != SurrogateKind::kReinforce || options_.rollout.there() ||
           options_.kl_bias_correction;
  }

  template <class T>
  static double OldLogp(const SequenceBatch<T>& batch, size_t t) {
    return double{batch.old_logp.empty() ? batch.logp[t] : batch.old_logp[t]};
  }
  template <class T>
  static double LogRatio(const SequenceBatch<T>& batch, size_t t) {
    return double{batch.logp[t]} - OldLogp(batch, t);
  }
  template <class T>
  static double PolicyWeight(const SequenceBatch<T>& batch, size_t t) {
    return batch.policy_weight.empty() ? 1 : double{batch.policy_weight[t]};
  }
  template <class T>
  static void AddSlope(std::span<T> d, size_t t, double slope) {
    if (!d.empty()) d[t] = static_cast<T>(double{d[t]} + slope);
  }
  template <class T, class Fn>
  static void ForScored(const SequenceBatch<T>& batch, size_t s, Fn&& fn) {
    for (size_t t = batch.begin(s); t < batch.end(s); ++t) {
      if (batch.mask[t] != 0) fn(t);
    }
  }
  template <class T>
  void AddClips(const SequenceBatch<T>& batch, const PolicyTerm& term) const {
    if (options_.surrogate.kind == SurrogateKind::kCispo) batch.AddAux(0, term.high ? 1 : 0, 1);
    if (options_.surrogate.kind != SurrogateKind::kClip) return;
    batch.AddAux(0, term.low ? 1 : 0, 1);
    batch.AddAux(1, term.high ? 1 : 0, 1);
    batch.AddAux(2, term.low || term.high ? 1 : 0, 1);
  }

  // Old less behaviour; what the sampler didn't report (NaN) is taken for equal.
  template <class T>
  static double RolloutLogRatio(const SequenceBatch<T>& batch, size_t t) {
    const double difference = OldLogp(batch, t) - double{batch.behaviour_logp[t]};
    return std::isnan(difference) ? 0 : difference;
  }
  template <class T>
  double SequenceRollout(const SequenceBatch<T>& batch, size_t s) const {
    if (!options_.rollout.per_sequence() || batch.behaviour_logp.empty()) return 1;
    double sum = 0;
    ForScored(batch, s, [&](size_t t) { sum += RolloutLogRatio(batch, t); });
    const double weight = options_.rollout.Weight(sum);
    batch.AddAux(aux_rollout_, weight, 1);
    return weight;
  }
  template <class T>
  double TokenRollout(const SequenceBatch<T>& batch, size_t t) const {
    if (!options_.rollout.there() || options_.rollout.per_sequence() ||
        batch.behaviour_logp.empty()) {
      return 1;
    }
    const double weight = options_.rollout.Weight(RolloutLogRatio(batch, t));
    batch.AddAux(aux_rollout_, weight, 1);
    return weight;
  }

  // n unmasked tokens, each of that weight. A ratio of the sequence has a share in each token's
  // slope, and the slope of all tokens comes to it.
  template <class T>
  void AddSequence(const SequenceBatch<T>& batch, size_t s, double n, double weight) const {
    const bool whole = options_.level != RatioLevel::kToken;
    const double share = options_.level == RatioLevel::kSequence ? 1 / std::max(1.0, n) : 1;
    Bounded ratio;
    if (whole) {
      double sum = 0;
      ForScored(batch, s, [&](size_t t) { sum += LogRatio(batch, t) * share; });
      ratio = Bound(sum);
    }
    const double rollout = SequenceRollout(batch, s);
    double slope = 0;
    PolicyTerm any;  // clipped somewhere: counted once per sequence
    ForScored(batch, s, [&](size_t t) {
      if (!whole) ratio = Bound(LogRatio(batch, t));
      const PolicyTerm term =
          options_.surrogate.At(ratio.log, double{batch.logp[t]}, double{batch.advantage[t]});
      const double w = weight * PolicyWeight(batch, t) * rollout * TokenRollout(batch, t);
      *batch.loss += w * term.value;
      AddSlope(batch.d_logp, t, w * term.by_logp);
      double by_ratio = w * term.by_ratio;
      if (options_.beta > 0) by_ratio += AddKl(batch, t, weight, ratio.log);
      if (!ratio.moves) by_ratio = 0;
      whole ? void(slope += by_ratio) : AddSlope(batch.d_logp, t, by_ratio);
      any.low = any.low || term.low;
      any.high = any.high || term.high;
      if (!whole) AddClips(batch, term);
    });
    if (!whole) return;
    AddClips(batch, any);
    ForScored(batch, s, [&](size_t t) { AddSlope(batch.d_logp, t, slope * share); });
  }

  // Returns the slope by the log of the ratio.
  template <class T>
  double AddKl(const SequenceBatch<T>& batch, size_t t, double weight, double log_ratio) const {
    const KlEstimator::Estimate kl =
        options_.kl.At(double{batch.logp[t]}, double{batch.ref_logp[t]});
    const double factor = options_.kl_bias_correction ? std::exp(log_ratio) : 1;
    *batch.loss += options_.beta * weight * factor * kl.value;
    AddSlope(batch.d_logp, t, options_.beta * weight * factor * kl.by_logp);
    batch.AddAux(aux_kl_, factor * kl.value, 1);
    return options_.kl_bias_correction ? options_.beta * weight * factor * kl.value : 0;
  }

  // The metric, and the bonus: the mean over the tokens that the policy term acts on.
  template <class T>
  void AddEntropy(const SequenceBatch<T>& batch) const {
    if (batch.entropy.empty()) return;
    double sum = 0, count = 0;
    for (size_t t = 0; t < batch.n_tokens(); ++t) {
      if (batch.mask[t] == 0) continue;
      batch.AddAux(aux_entropy_, double{batch.entropy[t]}, 1);
      sum += PolicyWeight(batch, t) * double{batch.entropy[t]};
      count += PolicyWeight(batch, t);
    }
    if (options_.entropy_coef == 0) return;
    const double scale =
        options_.entropy_coef / (std::max(1.0, count) * batch.raw->accumulation_steps);
    *batch.loss -= scale * sum;
    for (size_t t = 0; t < batch.n_tokens(); ++t) {
      if (batch.mask[t] != 0) AddSlope(batch.d_entropy, t, -scale * PolicyWeight(batch, t));
    }
  }

  PolicyOptions options_;
  std::vector<const char*> aux_names_;
  size_t aux_entropy_ = 0, aux_kl_ = 0, aux_rollout_ = 0;
};

}  // namespace retort::sdk

#endif  // RETORT_SDK_POLICY_LOSS_H_
