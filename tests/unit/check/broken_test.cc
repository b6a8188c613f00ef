// For each rule of the frame's tables there is a plugin that breaks it; the kit names that rule.
// SPDX-License-Identifier: Apache-2.0
#include <map>

#include "host/check/tables.h"
#include "kit_fixture.h"
#include "retort/abi/entry.h"

namespace retort::host::check {
namespace {

std::string TableOf(const std::string& rule) { return rule.substr(0, rule.find('.') + 1); }

std::string KindOf(const std::string& rule) {
  const std::string table = TableOf(rule);
  if (table == "filter." || table == "source." || table == "generator.") {
    return table.substr(0, table.size() - 1);
  }
  return RETORT_KIND_REWARD;
}

// Rules that can't be broken without these.
const std::map<std::string, std::set<std::string>>& Companions() {
  static const std::map<std::string, std::set<std::string>> kCompanions = {
      {"instance.create_many", {"instance.use_many"}},
      {"instance.accepted", {"instance.use"}},
      {"growth.host", {"growth.call"}},
      {"growth.first_size", {"growth.call", "growth.args", "growth.stride", "growth.hints"}},
      {"filter.batch", {"filter.order", "filter.split", "filter.repeat"}},
      {"filter.merge_order", {"filter.merge_into"}},
      {"source.again", {"source.resume", "source.cancel"}},
  };
  return kCompanions;
}

// Those that wait are run alone.
bool IsSlow(const std::string& rule) {
  return rule == "instance.destroy_time" || rule == "generator.deadline" ||
         rule == "generator.queue" || rule == "generator.destroy_busy";
}

class BrokenPlugin : public testing::TestWithParam<const Rule*> {};

TEST_P(BrokenPlugin, FailsWithItsRule) {
  const std::string rule = GetParam()->id;
  KitOptions options = OptionsFor(RETORT_PROBE);
  options.plugin = KindOf(rule) + "/" + rule;
  if (rule == "instance.schema") {  // a library of its own: no host loads it
    options.file = std::string(RETORT_LIBRARY_DIR) + "/schema.so";
    options.plugin = "reward/one";
  }
  options.only = {IsSlow(rule) ? rule : TableOf(rule)};
  if (rule == "generator.queue") options.timeout_ms = 3000;  // it never ends
  const KitReport report = Check(options);
  std::set<std::string> failed = Failed(report);
  EXPECT_EQ(failed.count(rule), 1U) << RenderText(report);
  failed.erase(rule);
  const auto companions = Companions().find(rule);
  for (const std::string& other : failed) {
    EXPECT_TRUE(companions != Companions().end() && companions->second.count(other) == 1)
        << other << "\n"
        << RenderText(report);
  }
}

std::vector<const Rule*> PluginRules() {
  std::vector<const Rule*> rules;
  for (const auto table : {InstanceRules(), GrowthRules(), RewardRules(), FilterRules(),
                           SourceRules(), GeneratorRules()}) {
    for (const Rule& rule : table) rules.push_back(&rule);
  }
  return rules;
}

std::string NameOf(const testing::TestParamInfo<const Rule*>& rule) {
  std::string name = rule.param->id;
  for (char& c : name) c = c == '.' ? '_' : c;
  return name;
}

INSTANTIATE_TEST_SUITE_P(Rules, BrokenPlugin, testing::ValuesIn(PluginRules()), NameOf);

class GoodPlugin : public testing::TestWithParam<const char*> {};

TEST_P(GoodPlugin, PassesEverything) {
  KitOptions options = OptionsFor(RETORT_PROBE);
  options.plugin = std::string(GetParam()) + "/good";
  options.only = {"instance.", "growth.", std::string(GetParam()) + "."};
  const KitReport report = Check(options);
  EXPECT_TRUE(report.passed()) << RenderText(report);
}

INSTANTIATE_TEST_SUITE_P(Kinds, GoodPlugin,
                         testing::Values("reward", "filter", "source", "generator"));

class BrokenLibrary : public testing::TestWithParam<const Rule*> {};

TEST_P(BrokenLibrary, FailsWithItsRule) {
  const std::string rule = GetParam()->id, name = rule.substr(rule.find('.') + 1);
  KitOptions options = OptionsFor(std::string(RETORT_LIBRARY_DIR) + "/" + name + ".so");
  options.only = {"library."};
  const KitReport report = Check(options);
  std::set<std::string> failed = Failed(report);
  EXPECT_EQ(failed.count(rule), 1U) << RenderText(report);
  failed.erase(rule);
  // What no host loads fails library.load too, and with it the rules that load it as a host does.
  for (const char* loading :
       {"library.load", "library.state", "library.output", "library.threads"}) {
    if (!Found(report, "library.load").empty()) failed.erase(loading);
  }
  EXPECT_TRUE(failed.empty()) << RenderText(report);
}

std::vector<const Rule*> TheLibraryRules() {
  std::vector<const Rule*> rules;
  for (const Rule& rule : LibraryRules()) rules.push_back(&rule);
  return rules;
}

INSTANTIATE_TEST_SUITE_P(Rules, BrokenLibrary, testing::ValuesIn(TheLibraryRules()), NameOf);

TEST(GoodLibrary, PassesEverything) {
  const KitReport report = Check(OptionsFor(std::string(RETORT_LIBRARY_DIR) + "/good.so"));
  EXPECT_TRUE(report.passed()) << RenderText(report);
}

}  // namespace
}  // namespace retort::host::check
