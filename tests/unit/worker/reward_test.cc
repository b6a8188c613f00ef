// Rewards in a worker: everything that a reward can be given arrives, everything it gives returns.
// SPDX-License-Identifier: Apache-2.0
#include <thread>

#include "worker_fixture.h"

namespace retort::host {
namespace {

using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using Texts = std::vector<std::string>;

class WorkerReward : public WorkerTest {
 protected:
  PluginInstance reward_ = Make("reward", "probe");
};

TEST_F(WorkerReward, RunsInAnotherProcess) {
  EXPECT_NE(PidOf(reward_), getpid());
  EXPECT_EQ(PidOf(reward_), PidOf(reward_));
}

TEST_F(WorkerReward, ScoresAndStatusesComeBackInOrder) {
  const Scored got = Score(reward_, Texts{"a", "na", "abc"});
  ASSERT_TRUE(got.status.ok()) << got.status.ToString();
  EXPECT_EQ(got.score[0], 1);
  EXPECT_EQ(got.score[2], 3);
  EXPECT_THAT(got.verdict,
              ElementsAre(RETORT_SCORE_OK, RETORT_SCORE_NOT_APPLICABLE, RETORT_SCORE_OK));
}

TEST_F(WorkerReward, EmptyBatchIsFine) { EXPECT_TRUE(Score(reward_, Texts{}).status.ok()); }

TEST_F(WorkerReward, NulBytesAndTenMegabytesArrive) {
  const std::string nul("nul\0a\0\0", 7);
  const std::string big(10'000'000, 'x');
  const Scored got = Score(reward_, Texts{nul, big, ""});
  EXPECT_THAT(got.score, ElementsAre(3, 10'000'000, 0));
}

TEST_F(WorkerReward, IdsLogpAndAbsentTextsArrive) {
  const int32_t prompt[] = {5, 7}, completion[] = {1, 2, 9};
  const float logp[] = {0.25f, 0, 0};
  std::vector<retort_sample> views(2);
  views[0].completion = ToStr("ids");
  views[0].prompt_ids = prompt;
  views[0].n_prompt_ids = 2;
  views[0].completion_ids = completion;
  views[0].logp = logp;
  views[0].n_completion_ids = 3;
  views[1].completion = ToStr("absent");
  EXPECT_THAT(ScoreViews(reward_, views).score, ElementsAre(7009.25, 1));
}

TEST_F(WorkerReward, CallFieldsTravel) {
  const Scored got =
      Score(reward_, Texts{"key", "step", "deadline"}, {.step = 7, .key = {4, 5}, .n_threads = 3});
  EXPECT_THAT(got.score, ElementsAre(45, 703, 1));
}

TEST_F(WorkerReward, CallbacksReachTheCaller) {
  const Scored got = Score(reward_, Texts{"info", "log", "metric!", "progress"});
  EXPECT_EQ(got.info[0], "{\"seen\":1}");
  EXPECT_THAT(log_, Contains("a line"));
  EXPECT_EQ(metric_, 7);
  EXPECT_EQ(progress_, 0.5);
}

TEST_F(WorkerReward, HostInterfacesServeInsideTheWorker) {
  EXPECT_THAT(Score(reward_, Texts{"json"}).score, ElementsAre(42));
}

TEST_F(WorkerReward, GroupNumbersAreThoseOfTheCall) {
  const PluginInstance grouped = Make("reward", "groups");
  std::vector<Sample> samples = {{"group", 0}, {"group", 0}, {"group", 1}};
  EXPECT_THAT(Score(grouped, samples).score, ElementsAre(0, 0, 100));
}

TEST_F(WorkerReward, AFailureOfTheCallIsItsStatusAndText) {
  const Scored got = Score(reward_, Texts{"a", "refuse"});
  EXPECT_EQ(got.status.code(), Code::kInternal);
  EXPECT_THAT(got.status.message(), HasSubstr("refused"));
}

TEST_F(WorkerReward, ConcurrentIsNotPromised) {
  const auto* table =
      static_cast<const retort_reward_v1*>(reward_.interface(RETORT_REWARD_INTERFACE));
  EXPECT_EQ(table->flags & RETORT_REWARD_CONCURRENT, 0u);
  EXPECT_EQ(table->preferred_batch, 64u);
}

TEST_F(WorkerReward, AnswerClassesComeFromTheWorker) {
  EXPECT_EQ(reward_.interface(RETORT_ANSWER_INTERFACE), nullptr);
  const PluginInstance voter = Make("reward", "voter");
  const auto* table =
      static_cast<const retort_answer_v1*>(voter.interface(RETORT_ANSWER_INTERFACE));
  ASSERT_NE(table, nullptr);
  std::vector<retort_sample> views(4);
  const Texts texts = {"a", "bb", "c", "dd"};
  for (size_t i = 0; i < texts.size(); ++i) views[i].completion = ToStr(texts[i]);
  std::vector<int64_t> classes(4, -7);
  PluginCall call("voter");
  EXPECT_EQ(table->classes(voter.get(), call.Begin(), views.data(), sizeof(retort_sample), 4,
                           classes.data()),
            RETORT_OK);
  EXPECT_THAT(classes, ElementsAre(0, 1, 0, 1));
  views[1].completion = ToStr("class:crash");
  EXPECT_FALSE(call.End(table->classes(voter.get(), call.Begin(), views.data(),
                                       sizeof(retort_sample), 4, classes.data()),
                        "classes")
                   .ok());
  EXPECT_THAT(std::string(call.error_text()), HasSubstr("signal 11"));
}

TEST_F(WorkerReward, CancelReachesTheRunningCall) {
  std::atomic<int32_t> cancel{0};
  std::thread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    cancel = 1;
  });
  const int pid = PidOf(reward_);
  const Scored got = Score(reward_, Texts{"wait"}, {.cancel = &cancel});
  stopper.join();
  EXPECT_EQ(got.status.code(), Code::kCancelled);
  EXPECT_EQ(PidOf(reward_), pid) << "a plugin that came back in time keeps its worker";
}

TEST_F(WorkerReward, CancelKillsAPluginThatDoesNotListen) {
  std::atomic<int32_t> cancel{1};
  EXPECT_EQ(Score(reward_, Texts{"hang"}, {.cancel = &cancel}).status.code(), Code::kCancelled);
  EXPECT_THAT(Score(reward_, Texts{"ab"}).score, ElementsAre(2));
}

TEST_F(WorkerReward, TwoWorkersServeTwoThreads) {
  const auto run = [&](std::vector<double>* scores) {
    PluginRegistry plugins;
    ASSERT_TRUE(plugins.LoadFile(RETORT_PROBE).ok());
    Result<PluginInstance> made = CreateIsolated(plugins, "reward", "probe", "", {}, Options());
    ASSERT_TRUE(made.ok()) << made.status().ToString();
    const auto* table =
        static_cast<const retort_reward_v1*>(made->interface(RETORT_REWARD_INTERFACE));
    PluginCall call("probe");
    retort_sample sample{};
    for (size_t i = 0; i < 200; ++i) {
      const std::string text(i, 'x');
      sample.completion = ToStr(text);
      double score = -1;
      uint8_t status = RETORT_SCORE_ERROR;
      retort_reward_args args{};
      args.struct_size = sizeof args;
      args.sample_stride = sizeof sample;
      args.samples = &sample;
      args.n = 1;
      args.score = &score;
      args.status = &status;
      if (table->score(made->get(), call.Begin(), &args) == RETORT_OK) scores->push_back(score);
    }
  };
  std::vector<double> one, two, expected;
  for (size_t i = 0; i < 200; ++i) expected.push_back(static_cast<double>(i));
  std::thread first([&] { run(&one); }), second([&] { run(&two); });
  first.join();
  second.join();
  EXPECT_EQ(one, expected);
  EXPECT_EQ(two, expected);
}

TEST_F(WorkerReward, ThreadThatStartedItMayEnd) {
  std::optional<PluginInstance> made;
  std::thread([&] { made = Make("reward", "probe"); }).join();
  const int pid = PidOf(*made);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(PidOf(*made), pid);
}

}  // namespace
}  // namespace retort::host
