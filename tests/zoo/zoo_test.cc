// The zoo: every member of tests/badplugins/zoo.txt is visited in a worker and in this process,
// each time from a program of its own, and is put to `retort plugin check`. What happens must be
// what zoo.txt says. docs/zoo.md is its table for people. SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "core/io/filesystem.h"
#include "core/json/json.h"
#include "tests/zoo/child.h"

namespace retort::host {
namespace {

using testing::HasSubstr;

constexpr int64_t kVisitMs = 60'000;  // of a visit that should end: a limit for hangs, no measure
constexpr int64_t kHangMs = 1'500;    // after which one that should hang is told to stop

struct Member {
  std::string name, what, in_worker, in_process, rule;
};

void PrintTo(const Member& member, std::ostream* out) { *out << member.name; }

std::vector<std::string> Columns(const std::string& line) {
  std::vector<std::string> columns;
  std::istringstream in(line);
  for (std::string column; std::getline(in, column, '|');) {
    const size_t begin = column.find_first_not_of(' '), end = column.find_last_not_of(' ');
    columns.push_back(begin == std::string::npos ? "" : column.substr(begin, end - begin + 1));
  }
  return columns;
}

std::vector<Member> ReadMembers() {
  std::vector<Member> members;
  std::istringstream in(
      io::RealFileSystem().Read(RETORT_SOURCE_DIR "/tests/badplugins/zoo.txt", 1 << 20).value());
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::vector<std::string> columns = Columns(line);
    columns.resize(5);
    members.push_back({columns[0], columns[1], columns[2], columns[3], columns[4]});
  }
  return members;
}
const std::vector<Member>& Members() {
  static const std::vector<Member> members = ReadMembers();
  return members;
}

std::string FileOf(const Member& member) {
  return std::string(RETORT_BAD_PLUGIN_DIR) + "/" + member.name + ".so";
}

// What a visitor came to tell.
struct Story {
  std::map<std::string, std::string> steps;  // name -> "" or what went wrong
  std::vector<std::string> verdicts;
  std::string error;  // of a sample, if one has one
  ChildEnd end;
  bool Has(const char* step) const { return steps.count(step) > 0; }
  bool Failed(const char* step) const { return Has(step) && !steps.at(step).empty(); }
};

Story Visit(const Member& member, const std::string& tier, const std::string& on_error,
            int64_t limit_ms) {
  const std::string report = testing::TempDir() + "zoo-" + member.name + "-" + tier + ".jsonl";
  std::remove(report.c_str());
  Story story;
  story.end = RunChild({RETORT_ZOO_VISIT, FileOf(member), tier, on_error, report,
                        RETORT_ZOO_NO_PLUGINS, RETORT_ZOO_WORKER},
                       limit_ms);
  const Result<std::string> text = io::RealFileSystem().Read(report, 1 << 20);
  std::istringstream in(text.ok() ? *text : "");
  for (std::string line; std::getline(in, line);) {
    const json::Document step = json::Document::Parse(line, "report").value();
    const bool ok = step.root()["ok"].BoolOr(false);
    const std::string what(step.root()["text"].StringOr(""));
    story.steps[std::string(step.root()["step"].StringOr(""))] = ok ? "" : what;
    const json::Value verdicts = step.root()["verdicts"];
    for (size_t i = 0; i < verdicts.size(); ++i) {
      story.verdicts.emplace_back(verdicts[i].StringOr(""));
      story.error = what;
    }
  }
  std::remove(report.c_str());
  return story;
}

// The verdicts' outcome; the poison sample is the fourth.
std::string OutcomeOf(const std::vector<std::string>& verdicts) {
  size_t n_bad = 0;
  for (const std::string& verdict : verdicts) n_bad += verdict != "ok" ? 1 : 0;
  if (n_bad == 0) return "fine";
  if (n_bad == verdicts.size()) return "all marked";
  const bool poison_alone = n_bad == 1 && verdicts[3] != "ok";
  return poison_alone ? "marked" : "others marked";
}

// The words of zoo.txt for what happened.
std::string OutcomeOf(const Story& story, const std::string& name) {
  const bool named = story.end.errors.find("inside plugin ") != std::string::npos &&
                     story.end.errors.find(name) != std::string::npos;
  if (story.end.timed_out) return named ? "hangs" : "hangs without a name";
  if (!story.Has("end")) {
    if (!named) return "gone";
    return story.end.errors.find("ended inside") != std::string::npos ? "ends" : "dies";
  }
  if (story.Failed("load")) return "refused";
  if (story.Failed("create")) return "not created";
  if (story.Failed("samples")) return "stops";
  if (story.Failed("end") || !story.end.output.empty()) return "unseen";
  return OutcomeOf(story.verdicts);
}

std::string Tell(const Story& story) {
  std::string text;
  for (const auto& [step, what] : story.steps) text += step + ": " + what + "\n";
  for (const std::string& verdict : story.verdicts) text += verdict + " ";
  return text + "\n" + story.error + "\n" + story.end.Describe();
}

class Zoo : public testing::TestWithParam<Member> {};

TEST_P(Zoo, InWorkerTheHostSurvives) {
  const Member& member = GetParam();
  const Story story = Visit(member, "worker", "skip", kVisitMs);
  EXPECT_EQ(OutcomeOf(story, member.name), member.in_worker) << Tell(story);
  EXPECT_TRUE(story.end.exited && story.end.code == 0) << Tell(story);
  EXPECT_TRUE(story.Has("end")) << Tell(story);
  EXPECT_TRUE(!story.Failed("end")) << "the host's process changed: " << Tell(story);
  if (story.Failed("load")) {
    EXPECT_THAT(story.steps.at("load"), HasSubstr(FileOf(member)));
  }
}

TEST_P(Zoo, InProcessItIsRefusedOrNamed) {
  const Member& member = GetParam();
  const bool hangs = member.in_process == "hangs";
  const Story story = Visit(member, "here", "skip", hangs ? kHangMs : kVisitMs);
  EXPECT_EQ(OutcomeOf(story, member.name), member.in_process) << Tell(story);
  if (story.Failed("load")) {
    EXPECT_THAT(story.steps.at("load"), HasSubstr(FileOf(member)));
  }
}

TEST_P(Zoo, TheCheckFindsIt) {
  const Member& member = GetParam();
  if (member.rule.empty()) GTEST_SKIP() << "nothing is wrong with it";
  const ChildEnd end = RunChild({RETORT_PROGRAM, "plugin", "check", FileOf(member), "--json",
                                 "--timeout-ms", "2000", "--quiet"},
                                10 * kVisitMs);
  const Result<json::Document> report = json::Document::Parse(end.output, "report");
  ASSERT_TRUE(report.ok()) << end.Describe();
  EXPECT_NE(end.code, 0);
  std::set<std::string> failed;
  const json::Value rules = report->root()["rules"];
  for (size_t i = 0; i < rules.size(); ++i) {
    if (rules[i]["verdict"].StringOr("") == "fail") {
      failed.insert(std::string(rules[i]["rule"].StringOr("")));
    }
  }
  const bool found = std::any_of(failed.begin(), failed.end(), [&](const std::string& id) {
    return id.starts_with(member.rule);
  });
  EXPECT_TRUE(found) << "expected " << member.rule
                     << ", failed: " << testing::PrintToString(failed);
}

INSTANTIATE_TEST_SUITE_P(Members, Zoo, testing::ValuesIn(Members()),
                         [](const auto& member) { return member.param.name; });

// With "on_error": "fail" the first mark ends the run, and the text names the plugin.
TEST(ZooOnError, FailStopsAndNames) {
  for (const char* name : {"crash_in_sample", "loop_in_sample", "says_nan", "filter_crash"}) {
    const Story story = Visit({name, "", "", "", ""}, "worker", "fail", kVisitMs);
    ASSERT_TRUE(story.Failed("samples")) << Tell(story);
    EXPECT_THAT(story.steps.at("samples"), HasSubstr(name));
    EXPECT_TRUE(story.Has("end"));
  }
}

TEST(ZooList, EveryLibraryIsAMember) {
  std::set<std::string> members = {
      "good",   "duplicate", "create_silent", "score_nan",
      "status", "info",      "fast_math"};  // of the loader's own tests
  for (const Member& member : Members()) members.insert(member.name);
  size_t n = 0;
  const auto names = io::RealFileSystem().List(RETORT_BAD_PLUGIN_DIR).value();
  for (const std::string& name : names) {
    if (!name.ends_with(".so")) continue;
    EXPECT_TRUE(members.count(name.substr(0, name.size() - 3)) > 0) << name;
    ++n;
  }
  EXPECT_EQ(n, members.size());
}

std::string Table() {
  std::string text =
      "# The zoo\n\n"
      "Plugins that do harm, in `tests/badplugins/`, and what becomes of a chain that has one, "
      "with\n"
      "`\"on_error\": \"skip\"`, over eight samples of which one makes the plugin misbehave. Made "
      "from\n"
      "`tests/badplugins/zoo.txt` by `zoo_test`, which visits every member; `RETORT_UPDATE=1` "
      "writes\n"
      "this file anew. Outcomes:\n\n"
      "- *refused*, *not created*: an error that names the file, when it is loaded or an instance "
      "is\n"
      "  made; nothing else happens.\n"
      "- *marked*: that sample has an error or a timeout, the seven others their verdict. *all\n"
      "  marked*: the batch has errors. The run goes on, or with `\"fail\"` stops, naming the "
      "plugin.\n"
      "- *fine*: every sample has its verdict, and the host's process is as it was.\n"
      "- *dies*, *ends*: the process is gone; its last words name the plugin. *hangs*: it stands\n"
      "  still; stopped, it names the plugin. The run can be continued.\n"
      "- *gone*: the process is gone without a word, which only a worker can prevent.\n"
      "- *unseen*: every sample has its verdict and something is wrong, likewise.\n\n"
      "| member | what it does | in a worker | in process | broken rule |\n|---|---|---|---|---|\n";
  for (const Member& m : Members()) {
    text += "| `" + m.name + "` | " + m.what + " | " + m.in_worker + " | " + m.in_process + " | " +
            (m.rule.empty() ? "" : "`" + m.rule + (m.rule.ends_with('.') ? "*" : "") + "`") +
            " |\n";
  }
  return text;
}

TEST(ZooList, TheTableIsTheDocuments) {
  const std::string path = RETORT_SOURCE_DIR "/docs/zoo.md";
  if (std::getenv("RETORT_UPDATE") != nullptr) {
    ASSERT_TRUE(io::DurableWrite(path, Table()).ok());
  }
  const Result<std::string> text = io::RealFileSystem().Read(path, 1 << 20);
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(*text, Table()) << "write it anew with RETORT_UPDATE=1";
  std::printf("%s", Table().substr(Table().find("| member")).c_str());
}

}  // namespace
}  // namespace retort::host
