// The frame: which rules there are, what becomes of crashes and hangs, the reports.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "core/json/json.h"
#include "host/check/tables.h"
#include "kit_fixture.h"

namespace retort::host::check {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string Library(const std::string& name) {
  return std::string(RETORT_LIBRARY_DIR) + "/" + name + ".so";
}

TEST(Rules, IdsAreUniqueAndBeginWithTheirTable) {
  std::set<std::string> ids;
  for (const Rule* rule : AllRules()) {
    EXPECT_TRUE(ids.insert(rule->id).second) << rule->id;
    EXPECT_NE(std::string(rule->id).find('.'), std::string::npos) << rule->id;
    EXPECT_NE(rule->run, nullptr) << rule->id;
    EXPECT_GT(std::string(rule->title).size(), 10U) << rule->id;
    EXPECT_GT(std::string(rule->remedy).size(), 10U) << rule->id;
  }
}

TEST(Rules, EveryRuleOfTheAbiHasACheck) {
  std::set<std::string> covered;
  for (const Rule* rule : AllRules()) covered.insert(rule->abi_rule);
  const std::set<std::string> expected = {"R1", "R2", "R3", "R4", "R5",
                                          "R6", "R7", "R8", "R9", "R10"};
  EXPECT_EQ(covered, expected);
}

TEST(Rules, EveryKindHasATableOfItsOwn) {
  const size_t n_common = InstanceRules().size() + GrowthRules().size();
  for (const char* kind :
       {RETORT_KIND_FAMILY, RETORT_KIND_OP, RETORT_KIND_LOSS, RETORT_KIND_OPTIMIZER,
        RETORT_KIND_REWARD, RETORT_KIND_FILTER, RETORT_KIND_SOURCE, RETORT_KIND_GENERATOR}) {
    EXPECT_GT(RulesOfPlugin(kind).size(), n_common) << kind;
  }
}

TEST(CheckLibrary, WrongWordsAreRefusedWithTheNearestRightOne) {
  KitOptions options = OptionsFor(Library("good"));
  options.only = {"library.expört"};
  EXPECT_THAT(CheckLibrary(options).status().message(), HasSubstr("library.export"));
  options.only = {"filter."};
  EXPECT_THAT(CheckLibrary(options).status().message(), HasSubstr("none of the rules"));
  options.only = {};
  options.plugin = "two";
  EXPECT_THAT(CheckLibrary(options).status().message(), HasSubstr("it has reward/one"));
  options.plugin = "one";
  options.config = R"({"colour": "red"})";
  EXPECT_THAT(CheckLibrary(options).status().message(), HasSubstr("colour"));
  options.file = Library("not_there");
  EXPECT_EQ(CheckLibrary(options).status().code(), Code::kNotFound);
}

TEST(CheckLibrary, AConfigIsForOnePlugin) {
  KitOptions options = OptionsFor(RETORT_PROBE);
  options.config = "{}";
  EXPECT_THAT(CheckLibrary(options).status().message(), HasSubstr("--id"));
}

TEST(CheckLibrary, WithoutTheWorkerItSaysWhatIsMissing) {
  KitOptions options = OptionsFor(Library("good"));
  options.worker_path = "/nowhere/retort-worker";
  const Status status = CheckLibrary(options).status();
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("/nowhere/retort-worker"));
}

TEST(CheckLibrary, CanBeCancelled) {
  KitOptions options = OptionsFor(Library("good"));
  size_t n_done = 0;
  options.progress = [&](size_t done, size_t, std::string_view) { n_done = done; };
  options.cancelled = [&] { return n_done >= 3; };
  EXPECT_EQ(CheckLibrary(options).status().code(), Code::kCancelled);
}

TEST(CheckLibrary, ATextFileIsALibraryThatCannotBeLoaded) {
  const std::string path = testing::TempDir() + "no_library.so";
  std::ofstream(path) << "this is no library";
  const KitReport report = Check(OptionsFor(path));
  EXPECT_THAT(Found(report, "library.load"), HasSubstr("not an ELF file"));
  EXPECT_THAT(Found(report, "library.resolve"), HasSubstr("the system says"));
  EXPECT_EQ(Found(report, "library.describe_end"), "");
}

TEST(CheckLibrary, NamesSignalsExitCodesAndTheLimit) {
  KitOptions options = OptionsFor(RETORT_PROBE);
  options.plugin = "reward/growth.first_size";
  options.only = {"growth.first_size"};
  EXPECT_THAT(Found(Check(options), "growth.first_size"), HasSubstr("SIGSEGV"));
  options.plugin = "generator/generator.queue";
  options.only = {"generator.queue"};
  options.timeout_ms = 1500;
  EXPECT_THAT(Found(Check(options), "generator.queue"), HasSubstr("1500 ms"));
}

TEST(CheckLibrary, ProgressCountsEveryRule) {
  KitOptions options = OptionsFor(Library("good"));
  size_t last = 0, total = 0;
  options.progress = [&](size_t done, size_t all, std::string_view) {
    EXPECT_EQ(done, last + 1);
    last = done;
    total = all;
  };
  KitReport report = Check(options);
  EXPECT_EQ(last, total);
  EXPECT_EQ(report.rows.size(), total);
  options.only = {"instance.locale"};
  last = 0;
  report = Check(options);
  EXPECT_EQ(last, 1U);
  EXPECT_EQ(total, 1U);
}

TEST(CheckLibrary, TheSameSeedGivesTheSameReport) {
  KitOptions options = OptionsFor(RETORT_PROBE);
  options.plugin = "reward/reward.order";
  options.only = {"reward."};
  options.seed = 12345;
  const KitReport one = Check(options), two = Check(options);
  ASSERT_EQ(one.rows.size(), two.rows.size());
  for (size_t i = 0; i < one.rows.size(); ++i) {
    EXPECT_EQ(one.rows[i].finding.text, two.rows[i].finding.text) << one.rows[i].rule->id;
  }
  EXPECT_THAT(RenderText(one), HasSubstr("--seed 12345"));
}

TEST(Report, TextHasTheFindingTheRuleAndTheRemedy) {
  KitOptions options = OptionsFor(Library("describe_end"));
  const std::string text = RenderText(Check(options));
  EXPECT_THAT(text, HasSubstr("FAIL library.describe_end (R2)"));
  EXPECT_THAT(text, HasSubstr("found:  describe(1) gave a descriptor"));
  EXPECT_THAT(text, HasSubstr("remedy: compare the index with count()"));
  EXPECT_THAT(text, HasSubstr("1 failed"));
}

TEST(Report, JsonHasEveryRuleWithItsVerdict) {
  KitOptions options = OptionsFor(Library("describe_end"));
  options.seed = 7;
  const KitReport report = Check(options);
  const auto parsed = json::Document::Parse(RenderJson(report), "report");
  ASSERT_TRUE(parsed.ok()) << parsed.status().message();
  const json::Value root = parsed->root();
  EXPECT_EQ(root["seed"].IntOr(-1), 7);
  EXPECT_FALSE(root["passed"].BoolOr(true));
  EXPECT_EQ(root["n_fail"].IntOr(-1), 1);
  EXPECT_EQ(root["plugins"][0].StringOr(""), "reward/one");
  ASSERT_EQ(root["rules"].size(), report.rows.size());
  bool found = false;
  for (size_t i = 0; i < root["rules"].size(); ++i) {
    const json::Value row = root["rules"][i];
    if (row["verdict"].StringOr("") != "fail") continue;
    found = true;
    EXPECT_EQ(row["rule"].StringOr(""), "library.describe_end");
    EXPECT_EQ(row["abi_rule"].StringOr(""), "R2");
    EXPECT_THAT(std::string(row["remedy"].StringOr("")), StartsWith("compare"));
  }
  EXPECT_TRUE(found);
}

}  // namespace
}  // namespace retort::host::check
