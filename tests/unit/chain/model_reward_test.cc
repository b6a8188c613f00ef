// Reward entries that name a model: what they may say, and where a completion's steps end.
// SPDX-License-Identifier: Apache-2.0
#include "host/chain/model_reward.h"

#include "tests/unit/chain/chain_fixture.h"

namespace retort::host {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(SplitSteps, EndBehindBlankLinesAndBeforeNumberedLines) {
  EXPECT_THAT(SplitSteps(""), IsEmpty());
  EXPECT_THAT(SplitSteps("one line"), ElementsAre("one line"));
  EXPECT_THAT(SplitSteps("a\nb\n\n\nc\n"), ElementsAre("a\nb\n\n\n", "c\n"));
  EXPECT_THAT(SplitSteps("so:\nStep 1: a\nmore\nstep 2 b"),
              ElementsAre("so:\n", "Step 1: a\nmore\n", "step 2 b"));
  EXPECT_THAT(SplitSteps("### Step 1\nx\n**Step 12**\ny"),
              ElementsAre("### Step 1\nx\n", "**Step 12**\ny"));
  EXPECT_THAT(SplitSteps("a\n \t\nb"), ElementsAre("a\n \t\n", "b"));
  EXPECT_THAT(SplitSteps("a\r\n\r\nb"), ElementsAre("a\r\n\r\n", "b"));
}

TEST(SplitSteps, OtherLinesAreNoSteps) {
  EXPECT_THAT(SplitSteps("\n\nStep 1: a"), ElementsAre("\n\nStep 1: a"));  // nothing before it
  EXPECT_THAT(SplitSteps("a\nSteps 1\nStep one\nIn Step 2"),
              ElementsAre("a\nSteps 1\nStep one\nIn Step 2"));
}

class ModelRewardTest : public ChainTest {
 protected:
  std::string ErrorOf(const std::string& entry) {
    const auto chain = Rewards("[" + entry + "]");
    EXPECT_FALSE(chain.ok()) << entry;
    return chain.ok() ? "" : chain.status().message();
  }
};

TEST_F(ModelRewardTest, AnEntryNamesAPathOrAnObject) {
  auto chain = Rewards(R"([{"model": "a/rm"}, {"model": {"path": "b/prm", "adapter": "c/x",
      "chat_format": "chatml", "chat": false, "storage": "q8_0"}, "at": "steps", "reduce": "mean",
      "weight": 2}])");
  ASSERT_TRUE(chain.ok()) << chain.status().ToString();
  EXPECT_THAT(chain->names(), ElementsAre("rm", "prm"));
  EXPECT_THAT(chain->weights(), ElementsAre(1, 2));
  EXPECT_TRUE(chain->uses_engine());
}

TEST_F(ModelRewardTest, WrongEntriesAreNamed) {
  EXPECT_THAT(ErrorOf(R"({"model": ""})"), HasSubstr("[0].model: must be the path"));
  EXPECT_THAT(ErrorOf(R"({"model": 3})"), HasSubstr("[0].model: must be a path, or an object"));
  EXPECT_THAT(ErrorOf(R"({"model": {"paht": "x"}})"), HasSubstr("did you mean \"path\"?"));
  EXPECT_THAT(ErrorOf(R"({"model": {"path": "x", "chat": "no"}})"), HasSubstr("true or false"));
  EXPECT_THAT(ErrorOf(R"({"model": {"path": "x", "storage": "q9"}})"), HasSubstr("storage \"q9\""));
  EXPECT_THAT(ErrorOf(R"({"model": "x", "config": {}})"), HasSubstr("unknown key \"config\""));
  EXPECT_THAT(ErrorOf(R"({"model": "x", "at": "middle"})"), HasSubstr("\"end\" or \"steps\""));
  EXPECT_THAT(ErrorOf(R"({"model": "x", "reduce": "min"})"), HasSubstr("needs \"at\": \"steps\""));
  EXPECT_THAT(ErrorOf(R"({"model": "x", "at": "steps", "reduce": "max"})"),
              HasSubstr("known: min, mean, product"));
}

TEST_F(ModelRewardTest, AModelThatIsntThereIsAFailureOfTheCall) {
  auto chain = Rewards(R"([{"model": "/nowhere/rm"}])");
  ASSERT_TRUE(chain.ok());
  const auto table = chain->Score(Alone({"x"}), {});
  ASSERT_FALSE(table.ok());
  EXPECT_THAT(table.status().message(), HasSubstr("/nowhere/rm"));
}

}  // namespace
}  // namespace retort::host
