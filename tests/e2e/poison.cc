// A token loss for tests of on_nonfinite: cross-entropy that goes wrong at one label, in the loss
// or in the gradient alone.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "retort/sdk/loss.h"

namespace {

using retort::sdk::Call;
using retort::sdk::LossSpec;
using retort::sdk::TokenRows;

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "label": {"type": "integer", "default": -1, "description": "that poisons its row"},
    "gradient": {"type": "boolean", "default": false, "description": "the loss stays finite"}
  }
})";

class Poison {
 public:
  explicit Poison(const retort::sdk::Config& config)
      : label_(config.Int("label")), gradient_(config.Bool("gradient")) {}

  LossSpec Spec() const { return {}; }

  template <class T>
  void Rows(const Call&, const TokenRows<T>& rows) {
    for (int64_t r = 0; r < rows.n_rows(); ++r) {
      const double weight = rows.weight[static_cast<size_t>(r)];
      if (weight == 0) {
        if (rows.want_grad) std::fill_n(rows.logits[r], rows.vocab(), T{0});
        continue;
      }
      T* z = rows.logits[r];
      const int64_t vocab = rows.vocab(), label = *rows.labels[r];
      double sum = 0;
      for (int64_t c = 0; c < vocab; ++c) sum += std::exp(double{z[c]});
      const bool bad = label == label_;
      const double nan = std::numeric_limits<double>::quiet_NaN();
      *rows.loss[r] = static_cast<T>(bad && !gradient_ ? nan : std::log(sum) - double{z[label]});
      for (int64_t c = 0; rows.want_grad && c < vocab; ++c) {
        const double target = c == label ? 1 : 0;
        z[c] = static_cast<T>(bad ? nan : weight * (std::exp(double{z[c]}) / sum - target));
      }
    }
  }

 private:
  int64_t label_;
  bool gradient_;
};

RETORT_TOKEN_LOSS("poison", Poison, "cross-entropy that is no number at one label", kSchema);

}  // namespace
