// A reward that never judges twice alike, as a service may: what a resumed run must not ask again.
// SPDX-License-Identifier: Apache-2.0
#include <random>

#include "retort/sdk/reward.h"

namespace {

class Whim {
 public:
  explicit Whim(const retort::sdk::Config&) {}

  retort::sdk::Verdict Score(const retort::sdk::Call&, const retort::sdk::Sample&) {
    return retort::sdk::Verdict::Ok(std::uniform_real_distribution<double>()(entropy_));
  }

 private:
  std::random_device entropy_;
};

RETORT_REWARD("whim", Whim, "a number from 0 to 1, another each time", R"({"type": "object"})");

}  // namespace
