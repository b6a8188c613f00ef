// Keeps samples whose weighted sum of the entry's rewards lies within [min, max]. The host scores
// the rewards beforehand; a sample that could not be measured is dropped with that reason.
// SPDX-License-Identifier: Apache-2.0
#include <charconv>
#include <limits>
#include <string>

#include "retort/sdk/filter.h"

namespace {

using retort::sdk::Call;
using retort::sdk::Decision;
using retort::sdk::Failure;
using retort::sdk::Group;

std::string Text(double x) {
  char buffer[32];
  return {buffer, std::to_chars(buffer, buffer + sizeof buffer, x).ptr};
}

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "min": {"type": "number", "default": 1, "description": "least weighted sum kept"},
    "max": {"type": "number", "description": "greatest weighted sum kept"}
  }
})";

class RewardThreshold {
 public:
  static constexpr uint32_t kFlags = RETORT_FILTER_CONCURRENT | RETORT_FILTER_NEEDS_SCORES;

  explicit RewardThreshold(const retort::sdk::Config& config)
      : min_(config.Double("min")),
        max_(config.Double("max", std::numeric_limits<double>::infinity())) {
    if (min_ > max_) {
      throw Failure(RETORT_INVALID_ARGUMENT,
                    "/min: is " + Text(min_) + ", above max " + Text(max_));
    }
  }

  void JudgeGroup(const Call&, const Group& group) {
    if (group.n_rewards() == 0) {
      throw Failure(RETORT_INVALID_ARGUMENT,
                    "reward_threshold needs \"rewards\" in its chain entry");
    }
    for (size_t i = 0; i < group.size(); ++i) group.Decide(i, JudgeSample(group, i));
  }

 private:
  // Not applicable rewards stay out of the sum; an error leaves the sample unmeasured.
  Decision JudgeSample(const Group& group, size_t i) const {
    double sum = 0;
    size_t n_measured = 0;
    for (size_t k = 0; k < group.n_rewards(); ++k) {
      if (group.measured(i, k)) {
        sum += group.weight(k) * group.score(i, k);
        ++n_measured;
      } else if (group.status(i, k) != RETORT_SCORE_NOT_APPLICABLE) {
        return Decision::Drop(std::string("unmeasured: ") + group.reward_name(k));
      }
    }
    if (n_measured == 0) return Decision::Drop("unmeasured: no reward applies");
    if (sum < min_) return Decision::Drop("reward below " + Text(min_));
    if (sum > max_) return Decision::Drop("reward above " + Text(max_));
    Decision keep = Decision::Keep();
    keep.quality = sum;
    return keep;
  }

  double min_, max_;
};

RETORT_FILTER("reward_threshold", RewardThreshold,
              "keeps samples whose weighted rewards reach a threshold", kSchema);

}  // namespace
