// A token loss: focal loss, (1 - p)^gamma * -log p with p the probability of the label (Lin et al.,
// "Focal loss for dense object detection"), which makes well-learned tokens count less.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "retort/sdk/loss.h"

namespace {

// [loss.begin]
using retort::sdk::Call;
using retort::sdk::LossSpec;
using retort::sdk::TokenRows;

class Focal {
 public:
  explicit Focal(const retort::sdk::Config& config) : gamma_(config.Double("gamma")) {}

  LossSpec Spec() const { return {.flags = RETORT_LOSS_F64, .aux_names = {"label_probability"}}; }

  // T is float, and double when the host checks the gradient.
  template <class T>
  void Rows(const Call&, const TokenRows<T>& rows) {
    for (int64_t r = 0; r < rows.n_rows(); ++r) Row(rows, r);
  }

 private:
  template <class T>
  void Row(const TokenRows<T>& rows, int64_t r) const {
    T* z = rows.logits[r];
    const int64_t vocab = rows.vocab(), label = *rows.labels[r];
    const T weight = rows.weight[static_cast<size_t>(r)];
    if (weight == 0) {  // the label may be anything; the gradient must be exactly 0
      if (rows.want_grad) std::fill(z, z + vocab, T{0});
      return;
    }
    const double max = *std::max_element(z, z + vocab);
    double sum = 0;
    for (int64_t c = 0; c < vocab; ++c) sum += std::exp(double{z[c]} - max);
    const double logp = double{z[label]} - max - std::log(sum), p = std::exp(logp);
    *rows.loss[r] = static_cast<T>(-std::pow(1 - p, gamma_) * logp);
    if (rows.aux) rows.aux[r][0] = static_cast<T>(p);
    if (!rows.want_grad) return;
    // d loss / d logp, then d logp / d z = onehot - softmax.
    const double slope = gamma_ * std::pow(1 - p, gamma_ - 1) * p * logp - std::pow(1 - p, gamma_);
    for (int64_t c = 0; c < vocab; ++c) {
      const double q = std::exp(double{z[c]} - max) / sum;
      z[c] = static_cast<T>(weight * slope * ((c == label ? 1 : 0) - q));
    }
  }

  double gamma_;
};

RETORT_TOKEN_LOSS("focal", Focal, "cross-entropy that counts well-learned tokens less", R"({
  "type": "object",
  "properties": {"gamma": {"type": "number", "minimum": 1, "default": 2,
                           "description": "how much less; 0 would be cross-entropy"}}
})");
// [loss.end]

}  // namespace
