// The shipped examples run: the demo's pipeline in its tiny profile, from nothing and again.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>

#include "tests/golden/program.h"

namespace retort::golden {
namespace {
namespace fs = std::filesystem;

constexpr const char* kDemo = RETORT_SOURCE_DIR "/examples/smollm2_gsm8k/pipeline.json";

// Every file of the run but the log of events, with its time of change.
std::map<std::string, fs::file_time_type> FilesOf(const std::string& folder) {
  std::map<std::string, fs::file_time_type> out;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().filename();
    if (entry.is_regular_file() && name.find("manifest") != std::string::npos) {
      out[entry.path().string()] = entry.last_write_time();
    }
  }
  return out;
}

Outcome RunDemo(const std::string& folder) {
  return RunRetort({"run", kDemo, "--profile", "tiny", "--set", "output=" + folder});
}

TEST(DemoPipeline, TinyProfileRunsAndLeavesWhatItPromises) {
  const std::string folder = ScratchFolder("demo");
  const Outcome run = RunDemo(folder);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  for (const char* word : {"accuracy", "well_formed", "loglik"}) {
    EXPECT_THAT(run.out, testing::HasSubstr(word));
  }
  for (const char* file : {"run.json", "events.jsonl", "metrics.jsonl", "cot/samples.jsonl",
                           "cot/manifest.json", "clean/kept.jsonl", "clean/audit.jsonl",
                           "clean/manifest.json", "sft/manifest.json", "score/scores.json"}) {
    EXPECT_TRUE(fs::is_regular_file(folder + "/" + file)) << file;
  }
  // Every sample that the filters dropped has its line in the audit.
  EXPECT_EQ(ReadLines(folder + "/cot/samples.jsonl").size(),
            ReadLines(folder + "/clean/kept.jsonl").size() +
                ReadLines(folder + "/clean/audit.jsonl").size());
}

TEST(DemoPipeline, SecondRunDoesNothingAndPrintsTheSameTable) {
  const std::string folder = ScratchFolder("demo_twice");
  const Outcome first = RunDemo(folder);
  ASSERT_EQ(first.exit_code, 0) << first.err;
  const auto before = FilesOf(folder);
  ASSERT_FALSE(before.empty());
  const Outcome second = RunDemo(folder);
  ASSERT_EQ(second.exit_code, 0) << second.err;
  EXPECT_EQ(FilesOf(folder), before);
  EXPECT_THAT(second.out, testing::HasSubstr("well_formed"));
}

TEST(DemoPipeline, PlanNamesEveryStageAndRunsNothing) {
  const std::string folder = ScratchFolder("demo_plan");
  const Outcome plan =
      RunRetort({"plan", kDemo, "--profile", "tiny", "--set", "output=" + folder + "/run"});
  ASSERT_EQ(plan.exit_code, 0) << plan.err;
  for (const char* stage : {"cot", "clean", "sft", "score"}) {
    EXPECT_THAT(plan.out, testing::HasSubstr(stage));
  }
  EXPECT_FALSE(fs::exists(folder + "/run"));
}

// Needs the libraries that the test sdk_outside built against the installed SDK.
TEST(OutsidePlugins, PipelineUsesThemByPath) {
  const std::string folder = ScratchFolder("outside");
  const Outcome run =
      RunRetort({"run", RETORT_SOURCE_DIR "/examples/outside_plugins/pipeline.json", "--profile",
                 "tiny", "--set", "output=" + folder, "--set", "vars.plugins=" RETORT_OUTSIDE_DIR});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto samples = ReadLines(folder + "/write/samples.jsonl");
  const auto kept = ReadLines(folder + "/pick/kept.jsonl");
  const auto dropped = ReadLines(folder + "/pick/audit.jsonl");
  ASSERT_EQ(samples.size(), 8U);
  EXPECT_EQ(kept.size() + dropped.size(), samples.size());
  for (const auto& line : kept) {
    const double score = line.root()["rewards"]["mentions"].DoubleOr(-1);
    const std::string completion(line.root()["completion"].StringOr(""));
    const int n_found = static_cast<int>(completion.find("the") != std::string::npos) +
                        static_cast<int>(completion.find('=') != std::string::npos);
    EXPECT_EQ(score, n_found / 2.0) << completion;
  }
}

}  // namespace
}  // namespace retort::golden
