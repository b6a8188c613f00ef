// Plugins written for earlier versions of the ABI, compiled against the headers of their time, do
// on the present host what they did then: here and in a worker.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "host/chain/filter_chain.h"
#include "host/chain/reward_chain.h"
#include "host/plugin/first_size.h"

namespace retort::host {
namespace {

// The sizes of 1.0 in bytes; later versions add members behind.
static_assert(kFirstEntrySize == 96 && kFirstDescriptorSize == 48 && kFirstDecisionSize == 72);

using testing::ElementsAre;
using testing::HasSubstr;

data::Sample MakeSample(uint64_t uid, uint64_t record_uid, std::string completion,
                        std::string record = "{}") {
  data::Sample sample;
  sample.uid = uid;
  sample.record_uid = record_uid;
  sample.prompt = "p";
  sample.completion = std::move(completion);
  sample.record = std::move(record);
  return sample;
}

// "true" or "false": the value of `isolate`.
class Frozen : public testing::TestWithParam<const char*> {
 protected:
  Frozen() : session_(Options()) {
    for (const char* library : {"reward.so", "filter.so"}) {
      const Status loaded =
          session_.plugins().LoadFile(std::string(RETORT_FROZEN_DIR "/v1.0/") + library);
      EXPECT_TRUE(loaded.ok()) << loaded.message();
    }
  }
  static SessionOptions Options() {
    SessionOptions options;
    options.plugin_dir = RETORT_PLUGIN_DIR;
    options.worker_path = RETORT_WORKER_PATH;
    return options;
  }
  // {"plugin": id, "config": config}, where the parameter says.
  json::Document Entry(const std::string& id, const std::string& config = "{}") {
    const std::string text = R"({"plugin": ")" + id + R"(", "config": )" + config +
                             R"(, "max_error_rate": 1, "isolate": )" + GetParam() + "}";
    return json::Document::Parse(text, "test").value();
  }

  Session session_;
  ChainCall call_;
};

TEST_P(Frozen, TheRewardScoresReadsRecordsAndKnowsEqualAnswers) {
  std::vector<std::pair<std::string, double>> metrics;
  call_.metric = [&](std::string_view name, double sum, double count) {
    metrics.emplace_back(std::string(name), sum / count);
  };
  const json::Document entry = Entry("frozen_words");
  Result<RewardChain> chain = RewardChain::Create(session_, entry.root(), {1, 2});
  ASSERT_TRUE(chain.ok()) << chain.status().message();
  const std::vector<data::Sample> samples = {MakeSample(1, 1, "so it is so"), MakeSample(2, 1, ""),
                                             MakeSample(3, 1, "so it is so"),
                                             MakeSample(4, 2, "no", R"({"level": 0.25})")};
  const Result<RewardTable> table = chain->Score(samples, call_);
  ASSERT_TRUE(table.ok()) << table.status().message();
  EXPECT_EQ(table->score[0], 2);
  EXPECT_TRUE(std::isnan(table->score[1]));
  EXPECT_EQ(table->status[1], ScoreStatus::kNotApplicable);
  EXPECT_EQ(table->score[3], 2.5);
  EXPECT_EQ(table->info[0], R"({"words":2})");
  EXPECT_THAT(table->first_equal, ElementsAre(0, -1, 0, 0));
  EXPECT_FALSE(metrics.empty());
}

TEST_P(Frozen, TheRewardRefusesAConfigByItsPointer) {
  const json::Document entry = Entry("frozen_words", R"({"word": ""})");
  const Result<RewardChain> chain = RewardChain::Create(session_, entry.root(), {1, 2});
  ASSERT_FALSE(chain.ok());
  EXPECT_THAT(chain.status().message(), HasSubstr("/word: must have 1 to 63 bytes"));
}

TEST_P(Frozen, TheFilterObservesDropsRewritesAndGivesUp) {
  const json::Document entry = Entry("frozen_long");
  Result<FilterChain> chain = FilterChain::Create(session_, entry.root(), {1, 2});
  ASSERT_TRUE(chain.ok()) << chain.status().message();
  EXPECT_FALSE(chain->streams());
  const Result<FilterOutcome> outcome =
      chain->Run({MakeSample(1, 1, "four"), MakeSample(2, 2, "trim "), MakeSample(3, 3, ""),
                  MakeSample(4, 4, std::string(100, 'x')), MakeSample(5, 5, "five5")},
                 call_);
  ASSERT_TRUE(outcome.ok()) << outcome.status().message();
  std::vector<std::string> kept;
  for (const data::Sample& sample : outcome->kept) kept.push_back(sample.completion);
  EXPECT_THAT(kept, ElementsAre("four", "trim", "five5"));
  ASSERT_EQ(outcome->audit.size(), 2u);
  for (const AuditEntry& entry_of : outcome->audit) {
    EXPECT_EQ(entry_of.error, entry_of.uid == 3);
    if (entry_of.uid == 4) {
      EXPECT_EQ(entry_of.reason, "long");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tiers, Frozen, testing::Values("false", "true"), [](const auto& tier) {
  return std::string(tier.param) == "true" ? "InAWorker" : "InProcess";
});

}  // namespace
}  // namespace retort::host
