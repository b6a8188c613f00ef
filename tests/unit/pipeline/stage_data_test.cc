// Data entries as records and as samples: limits, mixtures, what stands for what.
// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stage_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "core/io/filesystem.h"

namespace retort::host {
namespace {

using testing::HasSubstr;

class StageDataTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/stage_data_" +
              testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_ + "/cot");
    Write("q.jsonl", R"({"question":"1+1?","solution":"add","answer":"2"}
{"question":"2+2?","solution":"add","answer":"4"}
{"question":"3+3?","solution":"add","answer":"6"}
)");
    const std::string text = R"({"retort":1,"name":"t","models":{"m":"m"},"data":{
      "q":{"path":"q.jsonl","map":{"prompt":"question"}},
      "refs":{"path":"q.jsonl","map":{"prompt":"question","completion":"<t>{solution}</t>{answer}"}}},
      "stages":[{"name":"cot","kind":"generate","model":"m","data":"q"},
                {"name":"clean","kind":"filter","data":["@cot","refs"],"filters":["length"]}]})";
    Result<PipelineConfig> config = ParsePipeline(text, folder_ + "/p.json", {});
    ASSERT_TRUE(config.ok()) << config.status().ToString();
    config_ = std::move(*config);
  }
  void Write(const std::string& name, const std::string& text) {
    ASSERT_TRUE(io::DurableWrite(folder_ + "/" + name, text).ok());
  }
  Result<std::vector<StageData>> Load(const std::vector<DataRef>& refs, int64_t limit = 0) {
    return LoadData(session_, config_, refs, limit, folder_);
  }

  Session session_{SessionOptions()};
  std::string folder_;
  PipelineConfig config_;
};

TEST_F(StageDataTest, LimitsCutEntriesAndTheWhole) {
  const auto all = Load({{.text = "q", .limit = 2}, {.text = "refs"}}, 4);
  ASSERT_TRUE(all.ok()) << all.status().ToString();
  EXPECT_EQ((*all)[0].records.size(), 2u);
  EXPECT_EQ((*all)[1].records.size(), 2u);
}

TEST_F(StageDataTest, RecordWithAnAnswerIsASample) {
  auto all = Load({{.text = "refs", .limit = 1}});
  ASSERT_TRUE(all.ok());
  const auto samples = AsSamples(std::move(*all));
  ASSERT_TRUE(samples.ok()) << samples.status().ToString();
  ASSERT_EQ(samples->size(), 1u);
  const data::Sample& sample = (*samples)[0];
  EXPECT_EQ(sample.completion, "<t>add</t>2");
  EXPECT_EQ(sample.prompt, "1+1?");
  ASSERT_EQ(sample.messages.size(), 1u);
  EXPECT_EQ(sample.messages[0].role, "user");
  EXPECT_TRUE(sample.completion_ids.empty());
  EXPECT_THAT(sample.record, HasSubstr("\"answer\""));
}

TEST_F(StageDataTest, RecordWithoutAnAnswerCantBeFiltered) {
  auto all = Load({{.text = "q"}});
  const auto samples = AsSamples(std::move(all).value());
  ASSERT_FALSE(samples.ok());
  EXPECT_THAT(samples.status().message(), HasSubstr("q.jsonl:1"));
}

TEST_F(StageDataTest, SamplesOfOneRecordGiveItOnceAsARecord) {
  auto records = Load({{.text = "q", .limit = 1}});
  data::Sample sample;
  sample.record_uid = (*records)[0].records[0].uid;
  sample.record = (*records)[0].records[0].Json();
  std::string lines;
  for (int32_t i = 0; i < 2; ++i) {
    sample.index = i;
    sample.uid = data::SampleUid(sample.record_uid, i);
    lines += data::SampleToJson(sample) + "\n";
  }
  Write("cot/samples.jsonl", lines);
  const auto all = Load({{.text = "@cot", .stage = "cot"}});
  ASSERT_TRUE(all.ok()) << all.status().ToString();
  const auto again = AsRecords(*all);
  ASSERT_TRUE(again.ok()) << again.status().ToString();
  ASSERT_EQ(again->size(), 1u);
  EXPECT_EQ((*again)[0].uid, sample.record_uid);
  EXPECT_EQ((*again)[0].prompt, "1+1?");
}

TEST_F(StageDataTest, SameRecordTwiceIsRefusedForPrompts) {
  const auto all = Load({{.text = "q"}, {.text = "q"}});
  const auto records = AsRecords(*all);
  ASSERT_FALSE(records.ok());
  EXPECT_THAT(records.status().message(), HasSubstr("second time"));
}

TEST_F(StageDataTest, BrokenLineNamesFileAndLine) {
  Write("q.jsonl", "{\"question\":\"1\"}\n{\"question\":\n");
  const auto all = Load({{.text = "q"}});
  ASSERT_FALSE(all.ok());
  EXPECT_THAT(all.status().message(), HasSubstr("q.jsonl:2"));
}

}  // namespace
}  // namespace retort::host
