// Filters in a worker: arguments and decisions travel, what was observed outlives a worker.
// SPDX-License-Identifier: Apache-2.0
#include <signal.h>

#include <numeric>

#include "worker_fixture.h"

namespace retort::host {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using Texts = std::vector<std::string>;

struct Decided {
  uint32_t action = RETORT_KEEP;
  std::string reason, completion;
};

class WorkerFilter : public WorkerTest {
 protected:
  // One sample per group, or `per_group`.
  retort_filter_args Args(const Texts& given, size_t per_group = 1) {
    texts_ = given;
    const Texts& texts = texts_;
    samples_.assign(texts.size(), {});
    groups_.clear();
    for (size_t i = 0; i < texts.size(); ++i) {
      samples_[i].completion = ToStr(texts[i]);
      samples_[i].group = static_cast<uint32_t>(i / per_group);
      if (i % per_group == 0) groups_.push_back({i, std::min(per_group, texts.size() - i), i});
    }
    retort_filter_args args{};
    args.struct_size = sizeof args;
    args.sample_stride = sizeof(retort_sample);
    args.group_stride = sizeof(retort_group);
    args.samples = samples_.data();
    args.n_samples = samples_.size();
    args.groups = groups_.data();
    args.n_groups = groups_.size();
    args.out_ctx = this;
    args.decide = [](void* ctx, uint64_t i, const retort_decision* d) {
      auto& self = *static_cast<WorkerFilter*>(ctx);
      self.decided_.at(i) = {d->action, std::string(ToView(d->reason)),
                             std::string(ToView(d->completion))};
    };
    decided_.assign(texts.size(), {});
    return args;
  }
  const retort_filter_v1& Table(const PluginInstance& filter) {
    return *static_cast<const retort_filter_v1*>(filter.interface(RETORT_FILTER_INTERFACE));
  }
  Status Judge(const PluginInstance& filter, const retort_filter_args& args) {
    PluginCall call(filter.name(), Sinks());
    return call.End(Table(filter).judge(filter.get(), call.Begin(), &args), "judge");
  }
  Status Observe(const PluginInstance& filter, const Texts& texts) {
    const retort_filter_args args = Args(texts);
    PluginCall call(filter.name(), Sinks());
    return call.End(Table(filter).observe(filter.get(), call.Begin(), &args), "observe");
  }
  Status EndPass(const PluginInstance& filter) {
    PluginCall call(filter.name(), Sinks());
    return call.End(Table(filter).end_pass(filter.get(), call.Begin(), 0), "end_pass");
  }
  // Kills the worker by a judgement of a single bad group.
  void KillWorker(const PluginInstance& filter) { (void)Judge(filter, Args({"crash", "fine"})); }
  std::string Mean(const PluginInstance& filter) {
    EXPECT_TRUE(Judge(filter, Args({"x"})).ok());
    return decided_[0].reason;
  }

  Texts texts_;
  std::vector<retort_sample> samples_;
  std::vector<retort_group> groups_;
  std::vector<Decided> decided_;
};

TEST_F(WorkerFilter, ArgumentsAndDecisionsTravel) {
  const PluginInstance filter = Make("filter", "script");
  retort_filter_args args = Args({"keep", "rewrite", "report"});
  const char* names[] = {"first", "second"};
  const double weights[] = {2, 3}, scores[] = {0, 0, 0, 0, 1.5, 2.5};
  const uint8_t statuses[] = {0, 0, 0, 0, 1, 0};
  const int64_t first_equal[] = {0, -1, 0};
  const std::vector<retort_str> info = {{}, {}, {}, {}, ToStr("{\"a\":1}"), {}};
  args.reward_names = names;
  args.n_rewards = 2;
  args.reward_weights = weights;
  args.scores = scores;
  args.score_status = statuses;
  args.first_equal = first_equal;
  args.info = info.data();
  args.pass = 0;
  ASSERT_TRUE(Judge(filter, args).ok());
  EXPECT_EQ(decided_[0].action, RETORT_KEEP);
  EXPECT_EQ(decided_[1].action, RETORT_REWRITE);
  EXPECT_EQ(decided_[1].completion, "new");
  EXPECT_EQ(decided_[2].reason, "first=1.5/1*2 class=0 info={\"a\":1} pass=0 groups=3");
}

TEST_F(WorkerFilter, ABadGroupIsFoundAndAllOthersAreJudged) {
  const PluginInstance filter = Make("filter", "script");
  Texts texts(20, "rewrite");
  texts[13] = "crash";
  ASSERT_TRUE(Judge(filter, Args(texts, 2)).ok());
  for (size_t i = 0; i < texts.size(); ++i) {
    const bool bad = i / 2 == 6;
    EXPECT_EQ(decided_[i].action, bad ? RETORT_ERROR : RETORT_REWRITE) << i;
    EXPECT_EQ(decided_[i].reason.find("signal 11") != std::string::npos, bad) << i;
  }
}

TEST_F(WorkerFilter, WhatWasObservedOutlivesTheWorker) {
  const PluginInstance filter = Make("filter", "mean");
  ASSERT_TRUE(Observe(filter, {"aa", "bbbb"}).ok());
  KillWorker(filter);
  ASSERT_TRUE(Observe(filter, {"ccccccccc"}).ok());
  KillWorker(filter);
  ASSERT_TRUE(EndPass(filter).ok());
  EXPECT_EQ(Mean(filter), "mean 5");
  KillWorker(filter);
  EXPECT_EQ(Mean(filter), "mean 5");
}

TEST_F(WorkerFilter, ALongJournalIsShortenedBySaving) {
  const PluginInstance filter = Make("filter", "mean");
  double sum = 0;
  for (int i = 0; i < 12; ++i) {  // beyond the journal's floor several times
    const size_t n = 4'000'000 + static_cast<size_t>(i);
    ASSERT_TRUE(Observe(filter, {std::string(n, 'x')}).ok());
    sum += static_cast<double>(n);
  }
  KillWorker(filter);
  ASSERT_TRUE(Observe(filter, {"x"}).ok());
  ASSERT_TRUE(EndPass(filter).ok());
  char expected[64];
  std::snprintf(expected, sizeof expected, "mean %g", (sum + 1) / 13);
  EXPECT_EQ(Mean(filter), expected);
}

TEST_F(WorkerFilter, ADeathWhileObservingIsTriedOnceMore) {
  const PluginInstance filter = Make("filter", "mean");
  const std::string marker = Fresh("observe");
  ASSERT_TRUE(Observe(filter, {"aa"}).ok());
  const std::string text = "observe:once:" + marker;
  ASSERT_TRUE(Observe(filter, {text}).ok());
  EXPECT_TRUE(std::filesystem::exists(marker));
  ASSERT_TRUE(EndPass(filter).ok());
  char expected[64];
  std::snprintf(expected, sizeof expected, "mean %g", (2 + static_cast<double>(text.size())) / 2);
  EXPECT_EQ(Mean(filter), expected);
  std::filesystem::remove(marker);
}

TEST_F(WorkerFilter, ASampleThatCannotBeObservedFailsTheCall) {
  const PluginInstance filter = Make("filter", "mean");
  const Status status = Observe(filter, {"aa", "observe:crash"});
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("signal 11"));
}

TEST_F(WorkerFilter, SaveAndMergeGoThrough) {
  const PluginInstance one = Make("filter", "mean"), two = Make("filter", "mean");
  ASSERT_TRUE(Observe(one, {"aa"}).ok());
  ASSERT_TRUE(Observe(two, {"bbbb"}).ok());
  std::string state;
  const retort_sink sink = {&state, [](void* ctx, const void* data, uint64_t) -> int64_t {
                              static_cast<std::string*>(ctx)->append(static_cast<const char*>(data),
                                                                     1);
                              return 1;  // short counts are legal
                            }};
  PluginCall call("mean");
  ASSERT_EQ(Table(two).save(two.get(), call.Begin(), &sink), RETORT_OK);
  EXPECT_EQ(state.size(), 16u);
  std::string_view rest = state;
  const retort_reader reader = {&rest, [](void* ctx, void* data, uint64_t) -> int64_t {
                                  auto& bytes = *static_cast<std::string_view*>(ctx);
                                  const size_t n = bytes.copy(static_cast<char*>(data), 3);
                                  bytes.remove_prefix(n);
                                  return static_cast<int64_t>(n);
                                }};
  ASSERT_EQ(Table(one).merge(one.get(), call.Begin(), &reader), RETORT_OK);
  KillWorker(one);
  ASSERT_TRUE(EndPass(one).ok());
  EXPECT_EQ(Mean(one), "mean 3");
  std::string_view cut("abc");
  const retort_reader short_reader = {&cut, reader.read};
  EXPECT_EQ(Table(two).merge(two.get(), call.Begin(), &short_reader), RETORT_DATA_LOSS);
}

}  // namespace
}  // namespace retort::host
