// Pipelines with a plugin that kills or hangs its worker on some samples: the run ends as on_error
// and max_error_rate say, and names the cause.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/golden/program.h"

namespace retort::golden {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class Isolation : public testing::Test {
 protected:
  // A pipeline that answers each prompt with itself, scores the answers by the probe's length and
  // keeps those of at least 4; `entry`: more keys of the probe's entry.
  Outcome Run(const std::string& name, const std::vector<std::string>& prompts,
              const std::string& entry) {
    folder_ = ScratchFolder("isolation_" + name);
    std::filesystem::create_directories(folder_);
    std::string records;
    for (const std::string& prompt : prompts) records += "{\"prompt\": \"" + prompt + "\"}\n";
    WriteText(folder_ + "/q.jsonl", records);
    WriteText(folder_ + "/pipeline.json", R"({"retort": 1, "name": "t", "output": ")" + folder_ +
                                              R"(/run", "plugins": [")" RETORT_PROBE R"("],
      "data": {"q": {"path": "q.jsonl"}},
      "stages": [{"name": "ask", "kind": "generate", "data": "q",
                  "generator": {"plugin": "echo", "config": {"template": "{prompt}"}}},
                 {"name": "clean", "kind": "filter", "data": "@ask",
                  "filters": [{"plugin": "reward_threshold", "config": {"min": 4},
                    "max_error_rate": 1, "rewards": [{"plugin": "probe")" +
                                              entry + "}]}]}]}");
    return RunRetort({"run", folder_ + "/pipeline.json"});
  }
  std::vector<std::string> Kept() const {
    std::vector<std::string> texts;
    for (const json::Document& line : ReadLines(folder_ + "/run/clean/kept.jsonl")) {
      texts.emplace_back(line.root()["completion"].StringOr("?"));
    }
    return texts;
  }
  std::string folder_;
};

TEST_F(Isolation, ACrashCostsItsSampleAndTheRunGoesOn) {
  const Outcome run = Run("skip", {"long one", "ab", "crash", "long two"},
                          R"(, "on_error": "skip", "max_error_rate": 0.5)");
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(Kept(), ElementsAre("long one", "long two"));
  EXPECT_THAT(ReadText(folder_ + "/run/clean/manifest.json"), HasSubstr("\"errors/probe\""));
  EXPECT_THAT(ReadText(folder_ + "/run/events.jsonl"), HasSubstr("signal 11"));
}

TEST_F(Isolation, ATimeoutCostsItsSampleAndTheRunGoesOn) {
  const Outcome run = Run("timeout", {"long one", "hang", "long two"},
                          R"(, "timeout_ms": 500, "max_error_rate": 0.5)");
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(Kept(), ElementsAre("long one", "long two"));
}

TEST_F(Isolation, OnErrorFailEndsTheRunWithTheCause) {
  const Outcome run = Run("fail", {"long one", "crash"}, R"(, "on_error": "fail")");
  EXPECT_NE(run.exit_code, 0);
  EXPECT_THAT(run.err, AllOf(HasSubstr("reward probe"), HasSubstr("signal 11")));
}

TEST_F(Isolation, TheFuseEndsTheRunWithTheCause) {
  const Outcome run = Run("fuse", {"long one", "crash"}, R"(, "on_error": "skip")");
  EXPECT_NE(run.exit_code, 0);
  EXPECT_THAT(run.err, AllOf(HasSubstr("max_error_rate"), HasSubstr("signal 11")));
}

TEST_F(Isolation, APluginThatAlwaysDiesEndsAsTheFuseSays) {
  const std::vector<std::string> prompts(100, "crash");
  const Outcome strict = Run("always", prompts, "");
  EXPECT_NE(strict.exit_code, 0);
  const Outcome patient = Run("always_patient", prompts, R"(, "max_error_rate": 1)");
  EXPECT_EQ(patient.exit_code, 0) << patient.err;
  EXPECT_TRUE(Kept().empty());
}

TEST_F(Isolation, TheCommandLineScoresInAWorkerToo) {
  const std::string samples = R"({"prompt": "p", "completion": "abc"}
{"prompt": "q", "completion": "crash"}
)";
  const Outcome run = RunRetort({"score", "--plugin", RETORT_PROBE, "--reward",
                                 R"({"plugin": "probe", "max_error_rate": 1})"},
                                samples);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const std::vector<json::Document> lines = ParseLines(run.out, "output");
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].root()["rewards"]["probe"].DoubleOr(-1), 3);
  EXPECT_EQ(lines[1].root()["status"]["probe"].StringOr(""), "error");
  EXPECT_THAT(std::string(lines[1].root()["info"]["probe"]["error"].StringOr("")),
              HasSubstr("signal 11"));
}

}  // namespace
}  // namespace retort::golden
