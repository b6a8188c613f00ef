// Chains with isolated entries: what a bad plugin costs, as on_error and max_error_rate say, and
// where a session puts a plugin.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>

#include "host/chain/filter_chain.h"
#include "host/chain/reward_chain.h"

namespace retort::host {
namespace {

using testing::AllOf;
using testing::HasSubstr;

SessionOptions OptionsWith(const std::string& worker) {
  SessionOptions options;
  options.plugin_dir = RETORT_PLUGIN_DIR;
  options.worker_path = worker;
  return options;
}

class IsolatedChain : public testing::Test {
 protected:
  IsolatedChain() { Open(RETORT_WORKER_PROGRAM); }
  void Open(const std::string& worker) {
    session_.emplace(OptionsWith(worker));
    ASSERT_TRUE(session_->EnsurePlugins().ok());
    const Status loaded = session_->plugins().LoadFile(RETORT_PROBE);
    ASSERT_TRUE(loaded.ok()) << loaded.ToString();
  }
  const json::Value& Parse(const std::string& entries) {
    document_.emplace(json::Document::Parse(entries, "test").value());
    return root_ = document_->root();
  }
  Result<RewardChain> Rewards(const std::string& entries) {
    return RewardChain::Create(*session_, Parse(entries), {1, 2});
  }
  Result<FilterChain> Filters(const std::string& entries) {
    return FilterChain::Create(*session_, Parse(entries), {1, 2});
  }
  static std::vector<data::Sample> Samples(const std::vector<std::string>& completions) {
    std::vector<data::Sample> samples(completions.size());
    for (size_t i = 0; i < samples.size(); ++i) {
      samples[i].uid = samples[i].record_uid = i + 1;
      samples[i].completion = completions[i];
      samples[i].record = "{}";
    }
    return samples;
  }

  std::optional<Session> session_;
  std::optional<json::Document> document_;
  json::Value root_;
  ChainCall call_;
};

TEST_F(IsolatedChain, ACrashIsSkippedAndSaysWhy) {
  auto chain = Rewards(R"([{"plugin": "probe", "max_error_rate": 0.5}])");
  ASSERT_TRUE(chain.ok()) << chain.status().ToString();
  const auto table = chain->Score(Samples({"ab", "crash", "abc"}), call_);
  ASSERT_TRUE(table.ok()) << table.status().ToString();
  EXPECT_EQ(table->score_at(0, 0), 2);
  EXPECT_EQ(table->status_at(1, 0), ScoreStatus::kError);
  EXPECT_THAT(table->error[1], HasSubstr("signal 11"));
  EXPECT_EQ(table->score_at(2, 0), 3);
  EXPECT_TRUE(chain->Finish().ok());
}

TEST_F(IsolatedChain, ATimeoutReachesTheTable) {
  auto chain = Rewards(R"([{"plugin": "probe", "max_error_rate": 0.5, "timeout_ms": 600}])");
  ASSERT_TRUE(chain.ok()) << chain.status().ToString();
  const auto table = chain->Score(Samples({"ab", "hang"}), call_);
  ASSERT_TRUE(table.ok()) << table.status().ToString();
  EXPECT_EQ(table->status_at(0, 0), ScoreStatus::kOk);
  EXPECT_EQ(table->status_at(1, 0), ScoreStatus::kTimeout);
  EXPECT_EQ(chain->counts()[0].n_timeouts, 1u);
}

TEST_F(IsolatedChain, OnErrorFailEndsTheRunWithTheSampleAndTheCause) {
  auto chain = Rewards(R"([{"plugin": "probe", "on_error": "fail"}])");
  ASSERT_TRUE(chain.ok());
  const Status status = chain->Score(Samples({"ab", "crash"}), call_).status();
  EXPECT_EQ(status.code(), Code::kAborted);
  EXPECT_THAT(status.message(),
              AllOf(HasSubstr("0000000000000002"), HasSubstr("signal 11"), HasSubstr("\"fail\"")));
}

TEST_F(IsolatedChain, TheFuseBlowsAtTheEndOfAStage) {
  auto chain = Rewards(R"(["probe"])");
  ASSERT_TRUE(chain.ok());
  ASSERT_TRUE(chain->Score(Samples({"ab", "crash"}), call_).ok());
  EXPECT_THAT(chain->Finish().message(),
              AllOf(HasSubstr("max_error_rate"), HasSubstr("signal 11")));
}

TEST_F(IsolatedChain, AFilterThatCrashesDropsItsGroupAsAnError) {
  auto chain = Filters(R"([{"plugin": "script", "max_error_rate": 0.5}])");
  ASSERT_TRUE(chain.ok()) << chain.status().ToString();
  const auto outcome = chain->Run(Samples({"ab", "crash", "rewrite"}), call_);
  ASSERT_TRUE(outcome.ok()) << outcome.status().ToString();
  EXPECT_EQ(outcome->kept.size(), 2u);
  ASSERT_EQ(outcome->audit.size(), 1u);
  EXPECT_TRUE(outcome->audit[0].error);
  EXPECT_THAT(outcome->audit[0].reason, HasSubstr("signal 11"));
  EXPECT_EQ(outcome->kept[1].completion, "new");
}

TEST_F(IsolatedChain, AnswersThatCannotBeComparedLeaveTheGroupWithoutAVote) {
  auto chain = Rewards(R"([{"plugin": "voter", "max_error_rate": 1}])");
  ASSERT_TRUE(chain.ok());
  const auto table = chain->Score(Samples({"ab", "class:crash", "abc"}), call_);
  ASSERT_TRUE(table.ok()) << table.status().ToString();
  EXPECT_EQ(table->first_equal, (std::vector<int64_t>{0, -1, 0}));
}

TEST_F(IsolatedChain, InfoThatIsNoJsonNeverReachesTheOutput) {
  // The probe's own info is JSON; what isn't becomes a text.
  auto chain = Rewards(R"([{"plugin": "probe"}])");
  ASSERT_TRUE(chain.ok());
  const auto table = chain->Score(Samples({"info", "badinfo"}), call_);
  ASSERT_TRUE(table.ok());
  EXPECT_EQ(table->info[0], R"({"seen":1})");
  EXPECT_EQ(table->info[1], R"({"not_json":"{oops"})");
}

TEST_F(IsolatedChain, BuiltInPluginsStayUnlessAskedToGo) {
  const PluginInfo* own = session_->plugins().Find("reward", "format").value();
  const PluginInfo* foreign = session_->plugins().Find("reward", "probe").value();
  EXPECT_FALSE(Session::Isolates(*own, {}));
  EXPECT_TRUE(Session::Isolates(*foreign, {}));
  EXPECT_TRUE(Session::Isolates(*own, {.isolate = true}));
  EXPECT_FALSE(Session::Isolates(*foreign, {.isolate = false}));
  EXPECT_FALSE(Session::Isolates(*session_->plugins().Find("op", "none").value(), {}));
  auto chain = Rewards(R"([{"plugin": "format", "isolate": true, "timeout_ms": 5000}])");
  EXPECT_TRUE(chain.ok()) << chain.status().ToString();
}

TEST_F(IsolatedChain, WithoutTheProgramTheRemedyIsSaid) {
  Open("/nonexistent/retort-worker");
  EXPECT_THAT(Rewards(R"(["probe"])").status().message(),
              AllOf(HasSubstr("/nonexistent/retort-worker"), HasSubstr("\"isolate\": false")));
  auto here = Rewards(R"([{"plugin": "probe", "isolate": false}])");
  ASSERT_TRUE(here.ok()) << here.status().ToString();
  const auto table = here->Score(Samples({"pid"}), call_);
  ASSERT_TRUE(table.ok());
  EXPECT_EQ(table->score_at(0, 0), getpid());
}

}  // namespace
}  // namespace retort::host
