// Rewards that kill, hang or confuse their worker: the host goes on, the guilty samples are known,
// and a plugin that never gives a good answer is out.
// SPDX-License-Identifier: Apache-2.0
#include <signal.h>

#include "worker_fixture.h"

namespace retort::host {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;
using Texts = std::vector<std::string>;

constexpr int64_t kShortMs = 600;  // for deeds that run into it

struct Deed {
  const char* text;
  bool hangs;
  const char* says;  // in the verdict's info
};

class EachDeed : public WorkerTest, public testing::WithParamInterface<Deed> {};

TEST_P(EachDeed, CostsItsOwnSampleAlone) {
  const Deed& deed = GetParam();
  const PluginInstance reward = Make("reward", "probe", Options(deed.hangs ? kShortMs : 60'000));
  Texts texts(5, "fine");
  texts[3] = deed.text;
  const Scored got = Score(reward, texts);
  ASSERT_TRUE(got.status.ok()) << got.status.ToString();
  for (size_t i = 0; i < texts.size(); ++i) {
    if (i == 3) continue;
    EXPECT_EQ(got.verdict[i], RETORT_SCORE_OK) << i;
    EXPECT_EQ(got.score[i], 4) << i;
  }
  EXPECT_EQ(got.verdict[3], deed.hangs ? RETORT_SCORE_TIMEOUT : RETORT_SCORE_ERROR);
  EXPECT_TRUE(std::isnan(got.score[3]));
  EXPECT_THAT(got.info[3], AllOf(StartsWith("{\"error\":"), HasSubstr(deed.says)));
  EXPECT_THAT(Score(reward, Texts{"ab"}).score, ElementsAre(2)) << "it goes on afterwards";
}

INSTANTIATE_TEST_SUITE_P(
    Deeds, EachDeed,
    testing::Values(Deed{"crash", false, "signal 11"}, Deed{"abort", false, "signal 6"},
                    Deed{"exit", false, "exited with code 3"},
                    Deed{"_exit", false, "exited with code 4"}, Deed{"hang", true, "timeout_ms"},
                    Deed{"deadlock", true, "timeout_ms"}, Deed{"wait", true, "timeout_ms"},
                    Deed{"overflow", false, "signal 11"}, Deed{"print", true, "timeout_ms"},
                    Deed{"flood", true, "timeout_ms"}, Deed{"bad_bytes", false, "protocol"},
                    Deed{"close_all", false, "worker"}),
    [](const auto& deed) {
      std::string name = deed.param.text;
      if (name[0] == '_') name = "raw" + name;
      return name;
    });

using WorkerDeaths = WorkerTest;

TEST_F(WorkerDeaths, SeveralBadSamplesAreAllFound) {
  const PluginInstance reward = Make("reward", "probe");
  Texts texts(64, "fine");
  for (const size_t i : {0, 1, 17, 40, 63}) texts[i] = "crash";
  const Scored got = Score(reward, texts);
  ASSERT_TRUE(got.status.ok()) << got.status.ToString();
  for (size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(got.verdict[i], texts[i] == "crash" ? RETORT_SCORE_ERROR : RETORT_SCORE_OK) << i;
  }
}

TEST_F(WorkerDeaths, HangsAndCrashesInOneBatchKeepTheirOwnVerdicts) {
  const PluginInstance reward = Make("reward", "probe", Options(kShortMs));
  const Scored got = Score(reward, Texts{"a", "hang", "b", "c", "crash", "d"});
  EXPECT_THAT(got.verdict, ElementsAre(RETORT_SCORE_OK, RETORT_SCORE_TIMEOUT, RETORT_SCORE_OK,
                                       RETORT_SCORE_OK, RETORT_SCORE_ERROR, RETORT_SCORE_OK));
}

TEST_F(WorkerDeaths, AGroupIsNeverSplit) {
  const PluginInstance reward = Make("reward", "groups");
  std::vector<Sample> samples;
  for (uint32_t group = 0; group < 6; ++group) {
    for (int i = 0; i < 3; ++i) samples.push_back({"group", group});
  }
  samples[7].text = "crash";  // of group 2
  const Scored got = Score(reward, samples);
  ASSERT_TRUE(got.status.ok()) << got.status.ToString();
  for (size_t i = 0; i < samples.size(); ++i) {
    const bool bad = i / 3 == 2;
    EXPECT_EQ(got.verdict[i], bad ? RETORT_SCORE_ERROR : RETORT_SCORE_OK) << i;
  }
}

TEST_F(WorkerDeaths, AnErrorWhileHalvingIsTheSamplesError) {
  const PluginInstance reward = Make("reward", "probe");
  const Scored got = Score(reward, Texts{"crash", "fine", "fine", "refuse"});
  ASSERT_TRUE(got.status.ok()) << got.status.ToString();
  EXPECT_EQ(got.verdict[0], RETORT_SCORE_ERROR);
  EXPECT_EQ(got.verdict[3], RETORT_SCORE_ERROR);
  EXPECT_THAT(got.info[3], HasSubstr("refused"));
}

TEST_F(WorkerDeaths, OneCrashByChanceCostsNothing) {
  const PluginInstance reward = Make("reward", "probe");
  const std::string marker = Fresh("once");
  const Scored got = Score(reward, Texts{"once:" + marker});
  EXPECT_THAT(got.verdict, ElementsAre(RETORT_SCORE_OK));
  EXPECT_TRUE(std::filesystem::exists(marker)) << "it did crash";
  std::filesystem::remove(marker);
}

TEST_F(WorkerDeaths, KilledBetweenTwoCallsCostsNothing) {
  const PluginInstance reward = Make("reward", "probe");
  const int pid = PidOf(reward);
  ASSERT_EQ(kill(pid, SIGKILL), 0);
  const Scored got = Score(reward, Texts{"abc"});
  EXPECT_THAT(got.score, ElementsAre(3));
  EXPECT_NE(PidOf(reward), pid);
  EXPECT_THAT(log_, Contains(HasSubstr("signal 9")));
}

TEST_F(WorkerDeaths, APluginThatAlwaysCrashesIsOutAndSaysSo) {
  const PluginInstance reward = Make("reward", "probe");
  const Scored first = Score(reward, Texts(64, "crash"));
  ASSERT_TRUE(first.status.ok()) << "the samples are marked: " << first.status.ToString();
  EXPECT_THAT(first.verdict, Each(RETORT_SCORE_ERROR));
  const Scored later = Score(reward, Texts{"fine"});
  EXPECT_EQ(later.status.code(), Code::kUnavailable);
  EXPECT_THAT(later.status.message(), AllOf(HasSubstr("reward probe is out"), HasSubstr("in a row"),
                                            HasSubstr("signal 11")));
}

TEST_F(WorkerDeaths, FailuresInARowCountOverCalls) {
  const PluginInstance reward = Make("reward", "probe");
  Score(reward, Texts{"crash"});  // twice: alone, a sample gets a second chance
  EXPECT_TRUE(Score(reward, Texts{"fine"}).status.ok()) << "a good answer starts the count anew";
  Score(reward, Texts{"crash"});
  Score(reward, Texts{"crash"});
  EXPECT_EQ(Score(reward, Texts{"fine"}).status.code(), Code::kUnavailable);
}

TEST_F(WorkerDeaths, LastWordsAreInTheVerdictWithoutEscapes) {
  const PluginInstance reward = Make("reward", "probe");
  const Scored got = Score(reward, Texts{"say:crash", "fine"});
  EXPECT_THAT(got.info[0], HasSubstr("last words ?[31m of the plugin"));
}

TEST_F(WorkerDeaths, WhatItPrintsIsLoggedAndCapped) {
  const PluginInstance reward = Make("reward", "probe", Options(kShortMs));
  Score(reward, Texts{"print", "fine"});
  EXPECT_THAT(log_, Contains("reward probe prints: and another line on stdout"));
  size_t bytes = 0;
  for (const std::string& line : log_) bytes += line.size();
  EXPECT_LT(bytes, 1'000'000u);
  EXPECT_THAT(log_, Contains(HasSubstr("(more is left out)")));
}

TEST_F(WorkerDeaths, ClosingStandardStreamsFailsTheCallAndHarmsNobody) {
  const PluginInstance reward = Make("reward", "probe");
  const int pid = PidOf(reward);
  const Scored got = Score(reward, Texts{"close", "fine"});
  EXPECT_EQ(got.status.code(), Code::kFailedPrecondition);
  EXPECT_THAT(got.status.message(), HasSubstr("standard descriptors"));
  EXPECT_THAT(Score(reward, Texts{"ab"}).score, ElementsAre(2));
  EXPECT_EQ(PidOf(reward), pid);
}

size_t OpenDescriptors() {
  size_t n = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
    n += entry.is_symlink();
  return n;
}

TEST_F(WorkerDeaths, NoDescriptorAndNoProcessIsLeftBehind) {
  const size_t before = OpenDescriptors();
  std::vector<int> pids;
  for (int i = 0; i < 5; ++i) {
    const PluginInstance reward = Make("reward", "probe");
    pids.push_back(PidOf(reward));
    Score(reward, Texts{"fine", "crash", "fine"});
    pids.push_back(PidOf(reward));
  }
  EXPECT_EQ(OpenDescriptors(), before);
  for (const int pid : pids) EXPECT_EQ(kill(pid, 0), -1) << pid;
}

}  // namespace
}  // namespace retort::host
