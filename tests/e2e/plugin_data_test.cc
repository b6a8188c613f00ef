// Pipelines whose records come from a source plugin and whose samples come from a generator
// plugin: no model is needed, here and in a worker.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/golden/program.h"

namespace retort::golden {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// "true" or "false": the value of `isolate`.
class PluginData : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    folder_ = ScratchFolder("plugin_data_" + std::string(GetParam()));
    std::filesystem::create_directories(folder_ + "/data");
    WriteText(folder_ + "/data/q.jsonl", R"({"prompt": "one"}
{"prompt": "two"}
{"prompt": "three"}
)");
  }
  // A pipeline beside the data, with `config` of the echo generator and more keys of its entry.
  std::string Pipeline(const std::string& config, const std::string& more = "") {
    const std::string where = std::string(R"(, "isolate": )") + GetParam();
    const std::string path = folder_ + "/pipeline.json";
    WriteText(path, R"({"retort": 1, "name": "t", "output": ")" + folder_ + R"(/run",
      "data": {"q": {"source": {"plugin": "jsonl", "config": {"path": "data/q.jsonl"})" +
                        where +
                        R"(}}},
      "stages": [{"name": "ask", "kind": "generate", "data": "q", "samples": 2,
                  "generator": {"plugin": "echo", "config": )" +
                        config + where + more + R"(}},
                 {"name": "clean", "kind": "filter", "data": "@ask",
                  "filters": [{"plugin": "length", "config": {"max_chars": 6})" +
                        where + "}]}]}");
    return path;
  }
  static std::vector<std::string> TextsOf(const std::string& file) {
    std::vector<std::string> texts;
    for (const json::Document& line : ReadLines(file)) {
      texts.emplace_back(line.root()["completion"].StringOr("?"));
    }
    return texts;
  }
  std::string folder_;
};

TEST_P(PluginData, RecordsAreAskedAboutAndTheAnswersFiltered) {
  const std::string pipeline = Pipeline(R"({"template": "{prompt} {sample}", "max_queue": 2})");
  const Outcome run = RunRetort({"run", pipeline});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(TextsOf(folder_ + "/run/ask/samples.jsonl"),
              ElementsAre("one 0", "one 1", "two 0", "two 1", "three 0", "three 1"));
  EXPECT_THAT(TextsOf(folder_ + "/run/clean/kept.jsonl"),
              ElementsAre("one 0", "one 1", "two 0", "two 1"));
  // Nothing changed: nothing runs. A changed file of the source's config: the stage runs anew.
  EXPECT_THAT(RunRetort({"run", pipeline}).err, Not(HasSubstr("run anew")));
  WriteText(folder_ + "/data/q.jsonl", "{\"prompt\": \"four\"}\n");
  const Outcome again = RunRetort({"run", pipeline});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(TextsOf(folder_ + "/run/ask/samples.jsonl"), ElementsAre("four 0", "four 1"));
}

TEST_P(PluginData, AFailedRequestIsTriedAgain) {
  const Outcome run = RunRetort({"run", Pipeline(R"({"fail_on": "two", "fail_times": 2})")});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(TextsOf(folder_ + "/run/ask/samples.jsonl"),
              ElementsAre("one", "one", "two", "two", "three", "three"));
}

TEST_P(PluginData, AfterTheLastRetryItIsAnErrorUnderTheFuse) {
  const std::string config = R"({"fail_on": "two"})";
  const Outcome kept = RunRetort(
      {"run", Pipeline(config, R"(, "max_retries": 1, "max_error_rate": 0.5)"), "--only", "ask"});
  ASSERT_EQ(kept.exit_code, 0) << kept.err;
  const auto lines = ReadLines(folder_ + "/run/ask/samples.jsonl");
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_EQ(lines[2].root()["finish"].StringOr(""), "error");
  const Outcome blown =
      RunRetort({"run", Pipeline(config, R"(, "max_retries": 0)"), "--only", "ask", "--fresh"});
  EXPECT_EQ(blown.exit_code, 1);
  EXPECT_THAT(blown.err, HasSubstr("max_error_rate"));
  const Outcome failed =
      RunRetort({"run", Pipeline(config, R"(, "max_retries": 0, "on_error": "fail")"), "--only",
                 "ask", "--fresh"});
  EXPECT_EQ(failed.exit_code, 1);
  EXPECT_THAT(failed.err, HasSubstr("on_error"));
}

INSTANTIATE_TEST_SUITE_P(Tiers, PluginData, testing::Values("false", "true"), [](const auto& tier) {
  return std::string(tier.param) == "true" ? "InAWorker" : "InProcess";
});

TEST(PluginDataConfig, WrongUsesAreRefusedByName) {
  const std::string folder = ScratchFolder("plugin_data_config");
  const auto refusal = [&](const std::string& data, const std::string& stage) {
    WriteText(folder + "/p.json", R"({"retort": 1, "name": "t", "output": "run", "data": {"q": )" +
                                      data + R"(}, "stages": [{"name": "ask", "kind": "generate",
                                      "data": "q", )" +
                                      stage + "}]}");
    const Outcome plan = RunRetort({"plan", folder + "/p.json"});
    EXPECT_EQ(plan.exit_code, 2) << plan.err;
    return plan.err;
  };
  const std::string echo = R"("generator": "echo")";
  EXPECT_THAT(refusal(R"({"path": "x", "source": "jsonl"})", echo), HasSubstr("one of the two"));
  EXPECT_THAT(refusal(R"({"source": "jsonl"})", R"("model": "m", "generator": "echo")"),
              HasSubstr("one of the two"));
  EXPECT_THAT(refusal(R"({"source": "jsonk"})", echo), HasSubstr("jsonl"));
  EXPECT_THAT(refusal(R"({"source": {"plugin": "jsonl", "config": {"path": "none.jsonl"}}})", echo),
              HasSubstr(folder + "/none.jsonl"));
  EXPECT_THAT(refusal(R"({"source": {"plugin": "jsonl", "config": {"path": "p.json"}}})",
                      R"("generator": {"plugin": "echo", "config": {"chunk_bytes": -1}})"),
              HasSubstr("/chunk_bytes"));
  EXPECT_THAT(refusal(R"({"source": {"plugin": "jsonl", "config": {"path": "p.json"}}})",
                      echo + R"(, "prefix": "<think>")"),
              HasSubstr("forced start"));
}

}  // namespace
}  // namespace retort::golden
