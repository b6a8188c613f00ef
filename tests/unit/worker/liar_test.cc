// A worker that lies is killed, its sample gets an error, and the host is none the worse.
// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include "worker_fixture.h"

namespace retort::host {
namespace {

using testing::HasSubstr;

class Liar : public WorkerTest, public testing::WithParamInterface<const char*> {
 protected:
  static WorkerOptions Liars() {
    WorkerOptions options = Options();
    options.program = RETORT_LIAR_PROGRAM;
    return options;
  }
  void SetUp() override { setenv("RETORT_TEST_LIE", GetParam(), 1); }
  void TearDown() override { unsetenv("RETORT_TEST_LIE"); }
};

TEST_P(Liar, IsFoundOut) {
  const PluginInstance reward = Make("reward", "probe", Liars());
  const Scored got = Score(reward, std::vector<std::string>{"a"});
  ASSERT_TRUE(got.status.ok()) << got.status.ToString();
  EXPECT_EQ(got.verdict[0], RETORT_SCORE_ERROR);
  EXPECT_THAT(got.info[0], HasSubstr("its worker"));
}

INSTANTIATE_TEST_SUITE_P(Lies, Liar,
                         testing::Values("two_scores", "many_items", "foreign_index",
                                         "foreign_item", "more_behind", "foreign_type",
                                         "old_number", "bad_magic", "huge", "odd_size", "cut"),
                         [](const auto& lie) { return std::string(lie.param); });

using HonestLiar = Liar;

TEST_P(HonestLiar, IsTakenAtItsWord) {
  const PluginInstance reward = Make("reward", "probe", Liars());
  EXPECT_EQ(Score(reward, std::vector<std::string>{"a"}).score[0], 1) << "the lies are what fails";
}

INSTANTIATE_TEST_SUITE_P(NoLie, HonestLiar, testing::Values("none"),
                         [](const auto& lie) { return std::string(lie.param); });

using LiarAtTheStart = Liar;

TEST_P(LiarAtTheStart, IsNotTakenOn) { EXPECT_FALSE(Try("reward", "probe", "", Liars()).ok()); }

INSTANTIATE_TEST_SUITE_P(Lies, LiarAtTheStart, testing::Values("other_protocol", "no_facts"),
                         [](const auto& lie) { return std::string(lie.param); });

}  // namespace
}  // namespace retort::host
