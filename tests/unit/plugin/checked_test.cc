// The checked wrapper: what a plugin hands out is checked, and what it throws is caught.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "core/base/plugin_call.h"
#include "host/plugin/registry.h"
#include "retort/abi/reward.h"

namespace retort::host {
namespace {

using testing::HasSubstr;

struct Scored {
  Status status;
  std::vector<double> score;
  std::vector<uint8_t> kind;
  std::vector<std::string> info;
};

// Three empty samples through the reward of a bad library.
Scored Score(const std::string& library) {
  PluginRegistry registry;
  EXPECT_TRUE(registry.LoadFile(std::string(RETORT_BAD_PLUGIN_DIR) + "/" + library + ".so").ok());
  const PluginInstance instance =
      registry.Create("reward", registry.List().front()->id, "", {}).value();
  const auto* table =
      static_cast<const retort_reward_v1*>(instance.interface(RETORT_REWARD_INTERFACE));
  const std::vector<retort_sample> samples(3);
  Scored out{.status = {},
             .score = std::vector<double>(3, std::numeric_limits<double>::quiet_NaN()),
             .kind = std::vector<uint8_t>(3, RETORT_SCORE_ERROR),
             .info = std::vector<std::string>(3)};
  const retort_reward_args args = {.struct_size = sizeof(args),
                                   .sample_stride = sizeof(retort_sample),
                                   .samples = samples.data(),
                                   .n = 3,
                                   .score = out.score.data(),
                                   .status = out.kind.data(),
                                   .info_ctx = &out,
                                   .info = [](void* ctx, uint64_t i, retort_str json) {
                                     static_cast<Scored*>(ctx)->info[i] = ToView(json);
                                   }};
  PluginCall call("reward " + library);
  out.status = call.End(table->score(instance.get(), call.Begin(), &args), "score");
  return out;
}

TEST(CheckedReward, GoodOnePasses) {
  const Scored s = Score("good");
  EXPECT_TRUE(s.status.ok());
  EXPECT_THAT(s.score, testing::Each(1.0));
  EXPECT_THAT(s.kind, testing::Each(RETORT_SCORE_OK));
}

TEST(CheckedReward, NonFiniteScoreIsThatSamplesError) {
  const Scored s = Score("score_nan");
  EXPECT_TRUE(s.status.ok());
  EXPECT_THAT(s.kind, testing::ElementsAre(RETORT_SCORE_OK, RETORT_SCORE_ERROR, RETORT_SCORE_OK));
  EXPECT_TRUE(std::isnan(s.score[1]));
  EXPECT_THAT(s.info[1], HasSubstr("not finite"));
}

TEST(CheckedReward, UnknownStatusIsThatSamplesError) {
  const Scored s = Score("status");
  EXPECT_THAT(s.kind, testing::ElementsAre(RETORT_SCORE_OK, RETORT_SCORE_ERROR, RETORT_SCORE_OK));
}

TEST(CheckedReward, InfoOutsideTheBatchFailsTheCall) {
  const Scored s = Score("info");
  EXPECT_EQ(s.status.code(), Code::kInternal);
  EXPECT_THAT(s.status.message(), HasSubstr("outside the batch"));
}

TEST(CheckedReward, ExceptionBecomesAStatusWithItsText) {
  const Scored s = Score("throws");
  EXPECT_EQ(s.status.code(), Code::kInternal);
  EXPECT_THAT(s.status.message(), HasSubstr("reward throws: score: "));
  EXPECT_THAT(s.status.message(), HasSubstr("thrown by score"));
}

TEST(PluginInstance, UnknownInterfaceIsNull) {
  PluginRegistry registry;
  ASSERT_TRUE(registry.LoadFile(std::string(RETORT_BAD_PLUGIN_DIR) + "/good.so").ok());
  const PluginInstance instance = registry.Create("reward", "good", "", {}).value();
  EXPECT_EQ(instance.interface("retort.reward/99"), nullptr);
  EXPECT_EQ(instance.interface(RETORT_ANSWER_INTERFACE), nullptr);
  EXPECT_EQ(instance.name(), "reward good");
}

}  // namespace
}  // namespace retort::host
