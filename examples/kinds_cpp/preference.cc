// A sequence loss: direct preference optimisation over pairs (Rafailov et al., arXiv 2305.18290,
// equation 7): -log sigmoid(beta * (margin of the preferred answer - margin of the other)), a
// margin being the log-probability of the answer less that of the reference model.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "retort/sdk/sequence_loss.h"

namespace {

// [sequence_loss.begin]
using retort::sdk::Call;
using retort::sdk::Failure;
using retort::sdk::LossSpec;
using retort::sdk::SequenceBatch;

class Preference {
 public:
  explicit Preference(const retort::sdk::Config& config) : beta_(config.Double("beta")) {}

  LossSpec Spec() const {
    return {.flags = RETORT_LOSS_F64,
            .needs = RETORT_SEQUENCE_REF_LOGP | RETORT_SEQUENCE_GROUP_ID | RETORT_SEQUENCE_TARGET,
            .grain = RETORT_GRAIN_GROUP,  // both answers to a prompt are in one call
            .aux_names = {"accuracy", "margin"}};
  }

  // The best answer of each group against each of the others.
  template <class T>
  void Eval(const Call& call, const SequenceBatch<T>& batch) {
    std::map<int32_t, std::vector<size_t>> groups;
    for (size_t s = 0; s < batch.n_sequences(); ++s) groups[batch.group_id[s]].push_back(s);
    for (auto& [group, answers] : groups) {
      call.ThrowIfCancelled();
      const auto by_target = [&](size_t a, size_t b) { return batch.target[a] > batch.target[b]; };
      std::stable_sort(answers.begin(), answers.end(), by_target);
      for (size_t i = 1; i < answers.size(); ++i) AddPair(batch, answers[0], answers[i]);
    }
  }

 private:
  template <class T>
  void AddPair(const SequenceBatch<T>& batch, size_t better, size_t worse) const {
    const double x = Margin(batch, better) - Margin(batch, worse);
    const double share = 1 / batch.raw->n_groups_global;
    // -log sigmoid(beta x), without overflow on either side.
    *batch.loss += share * (std::max(-beta_ * x, 0.0) + std::log1p(std::exp(-std::abs(beta_ * x))));
    const double slope = -share * beta_ / (1 + std::exp(beta_ * x));
    Add(batch, better, slope);
    Add(batch, worse, -slope);
    batch.AddAux(0, x > 0 ? 1 : 0, 1);
    batch.AddAux(1, x, 1);
  }

  template <class T>
  static double Margin(const SequenceBatch<T>& batch, size_t s) {
    double sum = 0;
    for (size_t t = batch.begin(s); t < batch.end(s); ++t) {
      if (batch.mask[t] != 0) sum += double{batch.logp[t]} - double{batch.ref_logp[t]};
    }
    return sum;
  }
  // Masked tokens have no part in the loss: their derivative stays 0.
  template <class T>
  static void Add(const SequenceBatch<T>& batch, size_t s, double slope) {
    if (batch.d_logp.empty()) return;  // not wanted
    for (size_t t = batch.begin(s); t < batch.end(s); ++t) {
      if (batch.mask[t] != 0) batch.d_logp[t] += static_cast<T>(slope);
    }
  }

  double beta_;
};

RETORT_SEQUENCE_LOSS("preference", Preference, "direct preference optimisation over pairs", R"({
  "type": "object",
  "properties": {"beta": {"type": "number", "minimum": 0, "default": 0.1}}
})");
// [sequence_loss.end]

}  // namespace
