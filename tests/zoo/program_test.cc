// The program `retort` with plugins.lock: written, demanded by option and beside a pipeline file;
// that nothing is found in the current folder by itself; and a run that goes on after a plugin took
// it down. SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "core/io/filesystem.h"
#include "core/json/json.h"
#include "tests/zoo/child.h"

namespace retort::host {
namespace {

using testing::HasSubstr;
using testing::Not;

class Program : public testing::Test {
 protected:
  Program() : folder_(io::Join(testing::TempDir(), "zooprogram" + std::to_string(getpid()))) {
    std::filesystem::remove_all(folder_);
    EXPECT_TRUE(io::RealFileSystem().MakeFolders(folder_ + "/plugins").ok());
    Copy("good");
    Write("in.jsonl", R"({"prompt": "p", "completion": "c"})"
                      "\n");
  }
  ~Program() override { std::filesystem::remove_all(folder_); }

  void Write(const std::string& name, const std::string& text) const {
    ASSERT_TRUE(io::DurableWrite(io::Join(folder_, name), text).ok());
  }
  // Places the library `name` as plugins/a.so.
  void Copy(const std::string& name) const {
    const std::string from = std::string(RETORT_BAD_PLUGIN_DIR) + "/" + name + ".so";
    Write("plugins/a.so", io::RealFileSystem().Read(from, 1 << 26).value());
  }
  // Runs `retort` with `words` in the folder.
  ChildEnd Retort(std::vector<std::string> words) const {
    std::vector<std::string> argv = {"/usr/bin/env", "-C", folder_, RETORT_PROGRAM};
    argv.insert(argv.end(), words.begin(), words.end());
    return RunChild(argv, 120'000);
  }
  ChildEnd Score() const {
    return Retort({"score", "--plugin", "plugins/a.so", "--plugin-lock", "plugins.lock", "--reward",
                   "good", "--input", "in.jsonl"});
  }

  std::string folder_;
};

TEST_F(Program, LockedLibrariesLoadAndOthersDoNot) {
  const ChildEnd locked = Retort({"plugin", "lock", "plugins/a.so", "--json"});
  ASSERT_EQ(locked.code, 0) << locked.Describe();
  const json::Document written = json::Document::Parse(locked.output, "output").value();
  EXPECT_EQ(written.root()["libraries"][0]["path"].StringOr(""), "plugins/a.so");
  ChildEnd end = Score();
  EXPECT_EQ(end.code, 0) << end.Describe();
  EXPECT_THAT(end.output, HasSubstr(R"("good":1.0)"));
  Copy("create");
  end = Score();
  EXPECT_EQ(end.code, 1) << end.Describe();
  EXPECT_THAT(end.errors, HasSubstr("was changed since it was locked"));
  EXPECT_EQ(end.output, "");
}

TEST_F(Program, APipelinesFolderBindsIt) {
  Write("pipeline.json", R"({"retort": 1, "name": "locked", "plugins": ["plugins/a.so"],
    "data": {"d": {"path": "in.jsonl"}},
    "stages": [{"name": "pick", "kind": "filter", "data": "d",
                "filters": [{"plugin": "length", "config": {"max_chars": 10}}]}]})");
  ASSERT_EQ(Retort({"plugin", "lock", "plugins/a.so"}).code, 0);
  ChildEnd end = Retort({"plan", "pipeline.json"});
  EXPECT_EQ(end.code, 0) << end.Describe();
  Copy("create");
  end = Retort({"plan", "pipeline.json"});
  EXPECT_NE(end.code, 0);
  EXPECT_THAT(end.errors, HasSubstr(folder_ + "/plugins.lock expects"));
}

TEST_F(Program, WrongUseIsToldApart) {
  EXPECT_EQ(Retort({"plugin", "lock", "nothing.so"}).code, 2);
  EXPECT_EQ(Score().code, 2) << "no such lock";
  Write("plugins.lock", "{}");
  const ChildEnd end = Score();
  EXPECT_EQ(end.code, 1);
  EXPECT_THAT(end.errors, HasSubstr("\"format\" is absent"));
}

TEST_F(Program, NothingIsFoundInTheCurrentFolder) {
  Write("good.so", io::RealFileSystem().Read(folder_ + "/plugins/a.so", 1 << 26).value());
  const ChildEnd end = Retort({"plugin", "list", "--kind", "reward"});
  EXPECT_EQ(end.code, 0) << end.Describe();
  EXPECT_THAT(end.output, Not(HasSubstr("good")));
}

// In process a crash ends the run and names the plugin; the same run then goes on, here with the
// plugin in a worker, and what was done stays done.
TEST_F(Program, ARunGoesOnAfterAPluginTookItDown) {
  Write("in.jsonl",
        "{\"prompt\": \"p\", \"completion\": \"fine\"}\n"
        "{\"prompt\": \"q\", \"completion\": \"poison\"}\n");
  Copy("filter_crash");
  Write("pipeline.json", R"({"retort": 1, "name": "goes-on", "plugins": ["plugins/a.so"],
    "data": {"d": {"path": "in.jsonl"}},
    "stages": [
      {"name": "first", "kind": "filter", "data": "d",
       "filters": [{"plugin": "length", "config": {"max_chars": 100}}]},
      {"name": "second", "kind": "filter", "data": "@first",
       "filters": [{"plugin": "filter_crash", "isolate": false, "max_error_rate": 1,
                    "config": {"trigger": "poison"}}]}]})");
  ChildEnd end = Retort({"run", "pipeline.json"});
  EXPECT_NE(end.code, 0) << end.Describe();
  EXPECT_THAT(end.errors, HasSubstr("inside the plugin filter filter_crash (" + folder_));
  end = Retort({"run", "pipeline.json", "--set", "stages.second.filters.0.isolate=true"});
  EXPECT_EQ(end.code, 0) << end.Describe();
  EXPECT_THAT(end.errors, HasSubstr("first is done already"));
  EXPECT_THAT(end.errors, HasSubstr("second finished"));
}

}  // namespace
}  // namespace retort::host
