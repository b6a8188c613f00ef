// Policy optimisation with group-relative advantages (GRPO): the clipped surrogate of PPO (Schulman
// et al., arXiv 1707.06347, equation 7) over tokens, with the k3 estimate of the KL divergence to a
// reference (Schulman, "Approximating KL divergence"; Shao et al., arXiv 2402.03300, equation 4).
// Names and semantics are those of TRL's GRPOConfig. Per token, with A the advantage:
//   c = exp(logp - old_logp), of the sequence's mean log ratio at level "sequence"  (arXiv
//   2507.18071) l = -min(min(c, delta) * A, clamp(c, 1 - epsilon, 1 + epsilon_high) * A) *
//   policy_weight k = exp(ref - logp) - (ref - logp) - 1 loss = sum over unmasked tokens of (l +
//   beta * k) * w - entropy_coef * (mean entropy / steps)
// where w, the weight of a token, is by loss_type (n: unmasked tokens)
//   grpo     1 / (max(1, n of the sequence) * all sequences)
//   bnpo     1 / (max(1, n of this call) * accumulation steps)
//   dr_grpo  1 / (all sequences * max completion length)                            (arXiv
//   2503.20783) dapo     1 / all unmasked tokens (arXiv 2503.14476)
// "All" counts the accumulation window of all ranks. Everything is worked out in f64.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>

#include "retort/sdk/sequence_loss.h"

namespace {

using retort::sdk::Call;
using retort::sdk::Config;
using retort::sdk::LossSpec;
using retort::sdk::SequenceBatch;

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "loss_type": {"type": "string", "enum": ["grpo", "bnpo", "dr_grpo", "dapo"], "default": "dapo",
                  "description": "how the sum over tokens is normalised"},
    "epsilon": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.2,
                "description": "lower clip range of the ratio: 1 - epsilon"},
    "epsilon_high": {"type": "number", "minimum": 0,
                     "description": "upper clip range, 1 + epsilon_high; absent: epsilon"},
    "delta": {"type": "number", "minimum": 0,
              "description": "upper bound of the unclipped ratio (two-sided clipping); absent: none"},
    "beta": {"type": "number", "minimum": 0, "default": 0,
             "description": "weight of the KL divergence to the reference; 0: no reference"},
    "importance_sampling_level": {"type": "string", "enum": ["token", "sequence"], "default": "token",
                                  "description": "one ratio per token, or one per sequence"},
    "entropy_coef": {"type": "number", "minimum": 0, "default": 0,
                     "description": "weight of the entropy bonus"}
  }
})";

enum class LossType { kGrpo, kBnpo, kDrGrpo, kDapo };

LossType LossTypeOf(std::string_view name) {
  if (name == "grpo") return LossType::kGrpo;
  if (name == "bnpo") return LossType::kBnpo;
  return name == "dr_grpo" ? LossType::kDrGrpo : LossType::kDapo;
}

enum Aux : size_t { kLow, kHigh, kRegion, kEntropy, kKl };

// The clipped term of one ratio: its value and its derivative by the log of the ratio.
struct Term {
  double value = 0, slope = 0;
  bool low = false, high = false;  // clipped
};

class Grpo {
 public:
  explicit Grpo(const Config& config)
      : type_(LossTypeOf(config.String("loss_type"))),
        low_(config.Double("epsilon")),
        high_(config.Double("epsilon_high", low_)),
        delta_(config.Double("delta", std::numeric_limits<double>::infinity())),
        beta_(config.Double("beta")),
        entropy_coef_(config.Double("entropy_coef")),
        per_sequence_(config.String("importance_sampling_level") == "sequence") {}

  LossSpec Spec() const {
    uint64_t needs = RETORT_SEQUENCE_ADVANTAGE;
    uint64_t optional = RETORT_SEQUENCE_OLD_LOGP | RETORT_SEQUENCE_POLICY_WEIGHT;
    if (beta_ > 0) needs |= RETORT_SEQUENCE_REF_LOGP;
    (entropy_coef_ > 0 ? needs : optional) |= RETORT_SEQUENCE_ENTROPY;
    LossSpec spec{.flags = RETORT_LOSS_F64,
                  .needs = needs,
                  .optional = optional,
                  .aux_names = {"clip_ratio/low_mean", "clip_ratio/high_mean",
                                "clip_ratio/region_mean", "entropy"}};
    if (beta_ > 0) spec.aux_names.push_back("kl");
    return spec;
  }

  template <class T>
  void Eval(const Call& call, const SequenceBatch<T>& batch) {
    const double n_scored = CountScored(batch, 0, batch.n_tokens());
    for (size_t s = 0; s < batch.n_sequences(); ++s) {
      call.ThrowIfCancelled();
      const double n = CountScored(batch, batch.begin(s), batch.end(s));
      const double weight = WeightOf(*batch.raw, n, n_scored);
      if (per_sequence_) {
        AddSequence(batch, s, n, weight);
      } else {
        for (size_t t = batch.begin(s); t < batch.end(s); ++t) {
          if (batch.mask[t] != 0) AddToken(batch, t, weight);
        }
      }
      if (beta_ > 0) AddKl(batch, s, weight);
    }
    AddEntropy(batch);
  }

 private:
  template <class T>
  static double CountScored(const SequenceBatch<T>& batch, size_t begin, size_t end) {
    double n = 0;
    for (size_t t = begin; t < end; ++t) n += batch.mask[t] != 0 ? 1 : 0;
    return n;
  }

  // Of every token of a sequence with n of the call's n_scored unmasked tokens.
  double WeightOf(const retort_sequence_loss_args& args, double n, double n_scored) const {
    switch (type_) {
      case LossType::kGrpo: return 1 / (std::max(1.0, n) * args.n_sequences_global);
      case LossType::kBnpo: return 1 / (std::max(1.0, n_scored) * args.accumulation_steps);
      case LossType::kDrGrpo: return 1 / (args.n_sequences_global * args.max_completion_length);
      case LossType::kDapo: break;
    }
    return 1 / std::max(1.0, args.n_tokens_global);
  }

  Term Clip(double log_ratio, double advantage) const {
    const double ratio = std::exp(log_ratio);
    const double clipped = std::clamp(ratio, 1 - low_, 1 + high_);
    const double bounded = std::min(ratio, delta_);
    Term term;
    // The smaller product counts; equal ones have equal slopes but at the very edge of the clip.
    const bool first = bounded * advantage <= clipped * advantage;
    term.value = -(first ? bounded : clipped) * advantage;
    if (ratio == (first ? bounded : clipped))
      term.slope = -ratio * advantage;  // else it is constant
    term.low = bounded < 1 - low_ && advantage < 0;
    term.high = bounded > 1 + high_ && advantage > 0;
    return term;
  }

  template <class T>
  static double LogRatio(const SequenceBatch<T>& batch, size_t t) {
    return batch.old_logp.empty() ? 0 : double{batch.logp[t]} - double{batch.old_logp[t]};
  }
  template <class T>
  static double PolicyWeight(const SequenceBatch<T>& batch, size_t t) {
    return batch.policy_weight.empty() ? 1 : double{batch.policy_weight[t]};
  }
  template <class T>
  static void AddSlope(std::span<T> d, size_t t, double slope) {
    if (!d.empty()) d[t] = static_cast<T>(double{d[t]} + slope);
  }
  template <class T>
  static void AddClips(const SequenceBatch<T>& batch, const Term& term) {
    batch.AddAux(kLow, term.low ? 1 : 0, 1);
    batch.AddAux(kHigh, term.high ? 1 : 0, 1);
    batch.AddAux(kRegion, term.low || term.high ? 1 : 0, 1);
  }

  template <class T>
  void AddToken(const SequenceBatch<T>& batch, size_t t, double weight) const {
    const Term term = Clip(LogRatio(batch, t), double{batch.advantage[t]});
    weight *= PolicyWeight(batch, t);
    *batch.loss += weight * term.value;
    AddSlope(batch.d_logp, t, weight * term.slope);
    AddClips(batch, term);
  }

  // One ratio for all tokens, so that each has a share in the slope of all.
  template <class T>
  void AddSequence(const SequenceBatch<T>& batch, size_t s, double n, double weight) const {
    double log_ratio = 0, slope = 0;
    const auto for_each = [&](auto&& fn) {
      for (size_t t = batch.begin(s); t < batch.end(s); ++t) {
        if (batch.mask[t] != 0) fn(t);
      }
    };
    for_each([&](size_t t) { log_ratio += LogRatio(batch, t) / n; });
    Term first;  // counted once per sequence
    for_each([&](size_t t) {
      const Term term = Clip(log_ratio, double{batch.advantage[t]});
      const double token_weight = weight * PolicyWeight(batch, t);
      *batch.loss += token_weight * term.value;
      slope += token_weight * term.slope;
      first.low = first.low || term.low;
      first.high = first.high || term.high;
    });
    for_each([&](size_t t) { AddSlope(batch.d_logp, t, slope / n); });
    AddClips(batch, first);
  }

  template <class T>
  void AddKl(const SequenceBatch<T>& batch, size_t s, double weight) const {
    for (size_t t = batch.begin(s); t < batch.end(s); ++t) {
      if (batch.mask[t] == 0) continue;
      const double log_ratio = double{batch.ref_logp[t]} - double{batch.logp[t]};
      const double kl = std::expm1(log_ratio) - log_ratio;
      *batch.loss += beta_ * weight * kl;
      AddSlope(batch.d_logp, t, -beta_ * weight * std::expm1(log_ratio));
      batch.AddAux(kKl, kl, 1);
    }
  }

  // The metric, and the bonus: the mean over the tokens that the policy term acts on.
  template <class T>
  void AddEntropy(const SequenceBatch<T>& batch) const {
    if (batch.entropy.empty()) return;
    double sum = 0, count = 0;
    for (size_t t = 0; t < batch.n_tokens(); ++t) {
      if (batch.mask[t] == 0) continue;
      batch.AddAux(kEntropy, double{batch.entropy[t]}, 1);
      sum += PolicyWeight(batch, t) * double{batch.entropy[t]};
      count += PolicyWeight(batch, t);
    }
    if (entropy_coef_ == 0) return;
    const double scale = entropy_coef_ / (std::max(1.0, count) * batch.raw->accumulation_steps);
    *batch.loss -= scale * sum;
    for (size_t t = 0; t < batch.n_tokens(); ++t) {
      if (batch.mask[t] != 0) AddSlope(batch.d_entropy, t, -scale * PolicyWeight(batch, t));
    }
  }

  LossType type_;
  double low_, high_, delta_, beta_, entropy_coef_;
  bool per_sequence_;
};

RETORT_SEQUENCE_LOSS("grpo", Grpo,
                     "clipped policy loss with group-relative advantages (TRL's GRPO)", kSchema);

}  // namespace
