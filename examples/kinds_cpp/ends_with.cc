// The smallest useful reward: 1 if the completion ends with a given text.
// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "retort/sdk/reward.h"

namespace {

// [reward.begin]
using retort::sdk::Call;
using retort::sdk::Sample;
using retort::sdk::Verdict;

class EndsWith {
 public:
  static constexpr uint32_t kFlags = RETORT_REWARD_PURE;  // same sample, same score

  explicit EndsWith(const retort::sdk::Config& config) : text_(config.String("text")) {}

  Verdict Score(const Call&, const Sample& sample) {
    if (sample.finish() == RETORT_FINISH_LENGTH) return Verdict::NotApplicable();  // cut off
    return Verdict::Ok(sample.completion().ends_with(text_) ? 1 : 0);
  }

 private:
  std::string text_;
};

RETORT_REWARD("ends_with", EndsWith, "1 if the completion ends with a text", R"({
  "type": "object",
  "required": ["text"],
  "properties": {"text": {"type": "string", "description": "the end to look for"}}
})");
// [reward.end]

}  // namespace
