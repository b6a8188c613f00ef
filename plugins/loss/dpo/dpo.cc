// Direct preference optimisation (Rafailov et al., arXiv 2305.18290, equation 7) and its kin, by
// TRL's names. With x the margin of the preferred over the other answer, each the sum over its
// unmasked tokens of logp - ref_logp, h = beta x, e the label smoothing:
//   sigmoid       (1 - e) * -log sigmoid(h) + e * -log sigmoid(-h)
//   robust        ((1 - e) * -log sigmoid(h) - e * -log sigmoid(-h)) / (1 - 2 e)   (arXiv
//   2403.00409) hinge         max(0, 1 - h) (arXiv 2305.10425) ipo           (x - 1 / (2 beta))^2,
//   answers averaged over their tokens        (arXiv 2310.12036) sigmoid_norm  sigmoid, answers
//   averaged over their tokens
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <string_view>

#include "retort/sdk/pairs.h"

namespace {

using retort::sdk::Call;
using retort::sdk::Config;
using retort::sdk::Failure;
using retort::sdk::LossSpec;
using retort::sdk::NegLogSigmoid;
using retort::sdk::NegLogSigmoidSlope;
using retort::sdk::SequenceBatch;

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "loss_type": {"type": "string", "default": "sigmoid",
      "enum": ["sigmoid", "robust", "hinge", "ipo", "sigmoid_norm"],
      "description": "how a margin becomes a loss"},
    "beta": {"type": "number", "minimum": 0, "default": 0.1,
      "description": "how much the policy is held to the reference"},
    "label_smoothing": {"type": "number", "minimum": 0, "maximum": 0.5, "default": 0,
      "description": "chance that a preference is the wrong way round"}
  }
})";

enum class LossType { kSigmoid, kRobust, kHinge, kIpo, kSigmoidNorm };

LossType LossTypeOf(std::string_view name) {
  if (name == "robust") return LossType::kRobust;
  if (name == "hinge") return LossType::kHinge;
  if (name == "ipo") return LossType::kIpo;
  return name == "sigmoid" ? LossType::kSigmoid : LossType::kSigmoidNorm;
}

enum Aux : size_t { kChosen, kRejected, kAccuracy, kMargin, kLogpChosen, kLogpRejected };

class Dpo {
 public:
  explicit Dpo(const Config& config)
      : type_(LossTypeOf(config.String("loss_type"))),
        beta_(config.Double("beta")),
        smoothing_(config.Double("label_smoothing")) {
    if (type_ == LossType::kIpo && beta_ == 0) {
      throw Failure(RETORT_INVALID_ARGUMENT, "/beta: ipo needs one above 0");
    }
    if (type_ == LossType::kRobust && smoothing_ == 0.5) {
      throw Failure(RETORT_INVALID_ARGUMENT, "/label_smoothing: robust needs one below 0.5");
    }
    if (smoothing_ > 0 && type_ != LossType::kSigmoid && type_ != LossType::kRobust) {
      throw Failure(RETORT_INVALID_ARGUMENT,
                    "/label_smoothing: only sigmoid and robust have label smoothing");
    }
  }

  LossSpec Spec() const {
    return {.flags = RETORT_LOSS_F64,
            .needs = RETORT_SEQUENCE_REF_LOGP | RETORT_SEQUENCE_GROUP_ID | RETORT_SEQUENCE_TARGET,
            .grain = RETORT_GRAIN_GROUP,  // both answers to a prompt are in one call
            .aux_names = {"rewards/chosen", "rewards/rejected", "rewards/accuracies",
                          "rewards/margins", "logps/chosen", "logps/rejected"}};
  }

  template <class T>
  void Eval(const Call& call, const SequenceBatch<T>& batch) {
    ForEachPair(
        batch, [](size_t) { return true; },
        [&](size_t better, size_t worse, double share) {
          call.ThrowIfCancelled();
          AddPair(batch, Sum(batch, better), Sum(batch, worse), share);
        });
  }

 private:
  struct Answer {
    size_t s = 0;
    double logp = 0, ratio = 0, n = 0;  // sums over unmasked tokens; their number, at least 1
  };
  template <class T>
  static Answer Sum(const SequenceBatch<T>& batch, size_t s) {
    Answer a{.s = s};
    for (size_t t = batch.begin(s); t < batch.end(s); ++t) {
      if (batch.mask[t] == 0) continue;
      a.logp += double{batch.logp[t]};
      a.ratio += double{batch.logp[t]} - double{batch.ref_logp[t]};
      a.n += 1;
    }
    a.n = std::max(1.0, a.n);
    return a;
  }

  bool Averages() const { return type_ == LossType::kIpo || type_ == LossType::kSigmoidNorm; }
  // The loss of a margin, and its slope.
  double Loss(double x) const {
    const double h = beta_ * x, right = NegLogSigmoid(h), wrong = NegLogSigmoid(-h);
    switch (type_) {
      case LossType::kHinge: return std::max(0.0, 1 - h);
      case LossType::kIpo: return (x - 0.5 / beta_) * (x - 0.5 / beta_);
      case LossType::kRobust:
        return ((1 - smoothing_) * right - smoothing_ * wrong) / (1 - 2 * smoothing_);
      default: return (1 - smoothing_) * right + smoothing_ * wrong;
    }
  }
  double Slope(double x) const {
    const double h = beta_ * x, right = NegLogSigmoidSlope(h), wrong = -NegLogSigmoidSlope(-h);
    switch (type_) {
      case LossType::kHinge: return h < 1 ? -beta_ : 0;
      case LossType::kIpo: return 2 * (x - 0.5 / beta_);
      case LossType::kRobust:
        return beta_ * ((1 - smoothing_) * right - smoothing_ * wrong) / (1 - 2 * smoothing_);
      default: return beta_ * ((1 - smoothing_) * right + smoothing_ * wrong);
    }
  }

  template <class T>
  void AddPair(const SequenceBatch<T>& batch, const Answer& better, const Answer& worse,
               double share) const {
    const double n_better = Averages() ? better.n : 1, n_worse = Averages() ? worse.n : 1;
    const double x = better.ratio / n_better - worse.ratio / n_worse;
    *batch.loss += share * Loss(x);
    AddSlope(batch, better.s, share * Slope(x) / n_better);
    AddSlope(batch, worse.s, -share * Slope(x) / n_worse);
    batch.AddAux(kChosen, beta_ * better.ratio, 1);
    batch.AddAux(kRejected, beta_ * worse.ratio, 1);
    batch.AddAux(kAccuracy, better.ratio > worse.ratio ? 1 : 0, 1);
    batch.AddAux(kMargin, beta_ * (better.ratio - worse.ratio), 1);
    batch.AddAux(kLogpChosen, better.logp, 1);
    batch.AddAux(kLogpRejected, worse.logp, 1);
  }

  template <class T>
  static void AddSlope(const SequenceBatch<T>& batch, size_t s, double slope) {
    for (size_t t = batch.begin(s); t < batch.end(s) && !batch.d_logp.empty(); ++t) {
      if (batch.mask[t] != 0) batch.d_logp[t] = static_cast<T>(double{batch.d_logp[t]} + slope);
    }
  }

  LossType type_;
  double beta_, smoothing_;
};

RETORT_SEQUENCE_LOSS("dpo", Dpo, "direct preference optimisation over pairs of answers (TRL's DPO)",
                     kSchema);

}  // namespace
