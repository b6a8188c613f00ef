// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/run_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace retort::host {
namespace {

class RunFolderTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "/run_" +
            testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(path_);
  }
  Result<RunFolder> Open() { return RunFolder::Open(io::RealFileSystem(), path_); }

  // "stage:step" of each line.
  std::string Metrics() {
    std::string out;
    Result<io::JsonlReader> reader = io::JsonlReader::Open(path_ + "/metrics.jsonl");
    for (;;) {
      const auto line = reader->Next();
      if (!line.value()) return out;
      const json::Value root = (*line)->root();
      out += std::string(root["stage"].StringOr("")) + ":" +
             std::to_string(root["step"].IntOr(-1)) + " ";
    }
  }
  static void Add(RunFolder& folder, const char* stage, int64_t step) {
    const auto fill = [](json::Writer& writer) { writer.Field("loss", 1.25); };
    ASSERT_TRUE(folder.AppendMetrics(stage, step, fill).ok());
  }
  std::string path_;
};

TEST_F(RunFolderTest, CutTakesLaterLinesOfTheStageAlone) {
  Result<RunFolder> folder = Open();
  ASSERT_TRUE(folder.ok()) << folder.status().ToString();
  for (const int64_t step : {1, 2, 3}) Add(*folder, "a", step);
  for (const int64_t step : {1, 2}) Add(*folder, "b", step);
  ASSERT_TRUE(folder->CutMetrics("a", 1).ok());
  EXPECT_EQ(Metrics(), "a:1 b:1 b:2 ");
  Add(*folder, "a", 2);
  EXPECT_EQ(Metrics(), "a:1 b:1 b:2 a:2 ");
  ASSERT_TRUE(folder->CutMetrics("b", -1).ok());
  EXPECT_EQ(Metrics(), "a:1 a:2 ");
}

TEST_F(RunFolderTest, TornLastLineIsCutOnOpening) {
  {
    Result<RunFolder> folder = Open();
    Add(*folder, "a", 1);
  }
  std::ofstream(path_ + "/metrics.jsonl", std::ios::app) << R"({"stage":"a","st)";
  Result<RunFolder> folder = Open();
  ASSERT_TRUE(folder.ok());
  Add(*folder, "a", 2);
  EXPECT_EQ(Metrics(), "a:1 a:2 ");
}

}  // namespace
}  // namespace retort::host
