// The pieces of a policy loss, number by number, each with its derivative: surrogates of the policy
// gradient, estimators of the KL divergence to a reference, weights of tokens under the usual
// aggregations, corrections of what the sampler did. policy_loss.h puts them together.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_POLICY_TERMS_H_
#define RETORT_SDK_POLICY_TERMS_H_

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "retort/abi/draft/loss.h"

namespace retort::sdk {

inline constexpr double kUnbounded = std::numeric_limits<double>::infinity();

// How per-token losses l become one number; n, N: unmasked tokens of the sequence, of the window.
enum class Aggregation {
  kGrpo,    // mean over tokens of a sequence, then over sequences
  kBnpo,    // mean over the tokens of a call, then over calls
  kDrGrpo,  // sum over sequences * max_completion_length  (arXiv 2503.20783)
  kDapo,    // sum / N  (arXiv 2503.14476)
  kLuspo,   // sum over tokens, then mean over sequences
};

inline Aggregation AggregationOf(std::string_view name) {
  if (name == "grpo") return Aggregation::kGrpo;
  if (name == "bnpo") return Aggregation::kBnpo;
  if (name == "dr_grpo") return Aggregation::kDrGrpo;
  return name == "luspo" ? Aggregation::kLuspo : Aggregation::kDapo;
}

// The weight of every token of a sequence with n of the call's n_call unmasked tokens. Sequences
// without any count as sequences if count_masked.
inline double TokenWeight(Aggregation aggregation, const retort_sequence_loss_args& args, double n,
                          double n_call, bool count_masked) {
  const double sequences = count_masked ? args.n_sequences_global : args.n_scored_sequences_global;
  switch (aggregation) {
    case Aggregation::kGrpo: return 1 / (std::max(1.0, n) * sequences);
    case Aggregation::kBnpo: return 1 / (std::max(1.0, n_call) * args.accumulation_steps);
    case Aggregation::kDrGrpo: return 1 / (sequences * args.max_completion_length);
    case Aggregation::kLuspo: return 1 / sequences;
    case Aggregation::kDapo: break;
  }
  return 1 / std::max(1.0, args.n_tokens_global);
}

// Over which tokens the ratio of the policies is taken.
enum class RatioLevel {
  kToken,
  kSequence,     // the geometric mean of a sequence's  (GSPO, arXiv 2507.18071)
  kSequenceSum,  // their product: of the whole answer
};

enum class SurrogateKind {
  kClip,       // -min(min(r, delta) A, clip(r, 1 - low, 1 + high) A)  (PPO, arXiv 1707.06347)
  kCispo,      // -sg(clip(r, low, high)) A logp  (arXiv 2506.13585)
  kSapo,       // -(4 / tau) sigmoid(tau (r - 1)) A, tau by the sign of A  (arXiv 2511.20347)
  kReinforce,  // -A logp
};

// A surrogate at one token: its value, and what it changes by with the log of the ratio r, and
// with logp itself.
struct PolicyTerm {
  double value = 0, by_ratio = 0, by_logp = 0;
  bool low = false, high = false;  // clipped
};

struct Surrogate {
  SurrogateKind kind = SurrogateKind::kClip;
  double low = 0.2, high = 0.2, delta = kUnbounded;  // clip; cispo: bounds of r itself
  double tau_positive = 1, tau_negative = 1.05;      // sapo

  PolicyTerm At(double log_ratio, double logp, double advantage) const {
    const double ratio = std::exp(log_ratio);
    switch (kind) {
      case SurrogateKind::kClip: return Clip(ratio, advantage);
      case SurrogateKind::kSapo: return Sapo(ratio, advantage);
      case SurrogateKind::kCispo: {
        const double weight = std::clamp(ratio, low, high) * advantage;
        return {.value = -weight * logp,
                .by_logp = -weight,
                .low = ratio < low && advantage<0, .high = ratio> high && advantage > 0};
      }
      case SurrogateKind::kReinforce: break;
    }
    return {.value = -advantage * logp, .by_logp = -advantage};
  }

 private:
  // The smaller product counts; equal ones have equal slopes but at the very edge of the clip.
  PolicyTerm Clip(double ratio, double advantage) const {
    const double clipped = std::clamp(ratio, 1 - low, 1 + high), bounded = std::min(ratio, delta);
    const double used = bounded * advantage <= clipped * advantage ? bounded : clipped;
    return {.value = -used * advantage,
            .by_ratio = ratio == used ? -ratio * advantage : 0,  // else it is constant
            .low = bounded < 1 - low && advantage<0, .high = bounded> 1 + high && advantage > 0};
  }
  PolicyTerm Sapo(double ratio, double advantage) const {
    const double tau = advantage > 0 ? tau_positive : tau_negative;
    const double gate = 1 / (1 + std::exp(-tau * (ratio - 1)));
    return {.value = -4 / tau * gate * advantage,
            .by_ratio = -4 * gate * (1 - gate) * ratio * advantage};
  }
};

// Estimators of KL(policy || reference) from one token of the policy, with d = ref - logp
// (Schulman, "Approximating KL divergence").
enum class KlKind {
  kK1,      // -d
  kK2,      // d^2 / 2
  kK3,      // e^d - d - 1
  kK3Plus,  // the value of k3 with the derivative of k2, which is the divergence's own
};

inline KlKind KlKindOf(std::string_view name) {
  if (name == "k1") return KlKind::kK1;
  if (name == "k2") return KlKind::kK2;
  return name == "k3" ? KlKind::kK3 : KlKind::kK3Plus;
}

struct KlEstimator {
  KlKind kind = KlKind::kK3;
  double clamp = 20, max = kUnbounded;  // bounds of |d|, and of the value on both sides

  struct Estimate {
    double value = 0, by_logp = 0;
  };
  // Beyond a bound the derivative is 0.
  Estimate At(double logp, double ref_logp) const {
    const double d = ref_logp - logp, at = std::clamp(d, -clamp, clamp);
    Estimate e;
    switch (kind) {
      case KlKind::kK1: e = {-at, 1}; break;
      case KlKind::kK2: e = {at * at / 2, -at}; break;
      case KlKind::kK3: e = {std::expm1(at) - at, -std::expm1(at)}; break;
      case KlKind::kK3Plus: e = {std::expm1(at) - at, -at}; break;
    }
    if (std::abs(d) > clamp || std::abs(e.value) > max) e.by_logp = 0;
    e.value = std::clamp(e.value, -max, max);
    return e;
  }
};

// The weight of what was drawn from a behaviour policy (a faster sampler, say) for a loss that
// takes it as drawn from the old policy: exp(old - behaviour), of a token or of the whole sequence.
enum class RolloutKind { kNone, kSequenceMask, kSequenceTruncate, kTokenMask, kTokenTruncate };

inline RolloutKind RolloutKindOf(std::string_view name) {
  if (name == "sequence_mask") return RolloutKind::kSequenceMask;
  if (name == "sequence_truncate") return RolloutKind::kSequenceTruncate;
  if (name == "token_mask") return RolloutKind::kTokenMask;
  return name == "token_truncate" ? RolloutKind::kTokenTruncate : RolloutKind::kNone;
}

struct RolloutCorrection {
  RolloutKind kind = RolloutKind::kNone;
  double min = 0, max = 3;

  bool there() const { return kind != RolloutKind::kNone; }
  bool per_sequence() const {
    return kind == RolloutKind::kSequenceMask || kind == RolloutKind::kSequenceTruncate;
  }
  // Outside of the bounds a ratio is cut, or its tokens don't count.
  double Weight(double log_ratio) const {
    const double ratio = std::exp(log_ratio), cut = std::clamp(ratio, min, max);
    const bool mask = kind == RolloutKind::kSequenceMask || kind == RolloutKind::kTokenMask;
    return mask && cut != ratio ? 0 : cut;
  }
};

}  // namespace retort::sdk

#endif  // RETORT_SDK_POLICY_TERMS_H_
