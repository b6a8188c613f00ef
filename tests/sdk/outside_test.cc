// The example plugins, built outside the tree, through the registry: run by check_outside.py.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "tests/unit/plugins/harness.h"

namespace retort::host {
namespace {

std::string Outside(const std::string& name) {
  const char* folder = std::getenv("RETORT_OUTSIDE_DIR");
  return std::string(folder == nullptr ? "" : folder) + "/lib" + name + ".so";
}

TEST(Outside, RewardInC) {
  PluginRegistry registry;
  const Status loaded = registry.LoadFile(Outside("mentions"));
  ASSERT_TRUE(loaded.ok()) << loaded.ToString();
  EXPECT_EQ(registry.List().front()->version, "1.0.0");
  EXPECT_EQ(registry.List().front()->license, "Apache-2.0");
  const auto reward =
      registry.Create("reward", "mentions", R"({"phrases": ["so", "####"]})", {}).value();
  const Scores s = ScoreAll(reward, {{"so it is #### 4", "", ""},
                                     {"####", "", ""},
                                     {"", "", ""},
                                     {std::string("a\0so", 4), "", ""}});
  EXPECT_THAT(s.score, testing::ElementsAre(1, 0.5, 0, 0.5));
}

TEST(Outside, RewardInCRefusesItsConfigs) {
  PluginRegistry registry;
  ASSERT_TRUE(registry.LoadFile(Outside("mentions")).ok());
  const auto error = [&](const char* config) {
    return registry.Create("reward", "mentions", config, {}).status().message();
  };
  EXPECT_THAT(error(R"({"phrases": []})"), testing::StartsWith("/phrases: is empty"));
  EXPECT_THAT(error(R"({"phrases": ["a", ""]})"), testing::StartsWith("/phrases: a phrase"));
  EXPECT_THAT(error("{}"), testing::HasSubstr("phrases"));
}

TEST(Outside, FilterInCpp) {
  PluginRegistry registry;
  const Status loaded = registry.LoadFile(Outside("repeated_lines"));
  ASSERT_TRUE(loaded.ok()) << loaded.ToString();
  const auto filter = registry.Create("filter", "repeated_lines", "", {}).value();
  const auto* table =
      static_cast<const retort_filter_v1*>(filter.interface(RETORT_FILTER_INTERFACE));
  const std::vector<TestSample> samples = {{"a\nb\nc", "", ""}, {"a\na\na", "", ""}, {"", "", ""}};
  const std::vector<retort_sample> raw = ToRaw(samples);
  const retort_group group = {0, raw.size(), 0};
  std::vector<uint32_t> actions(raw.size(), RETORT_KEEP);
  retort_filter_args args{};
  args.struct_size = sizeof(args);
  args.sample_stride = sizeof(retort_sample);
  args.group_stride = sizeof(retort_group);
  args.samples = raw.data();
  args.n_samples = raw.size();
  args.groups = &group;
  args.n_groups = 1;
  args.out_ctx = &actions;
  args.decide = [](void* ctx, uint64_t i, const retort_decision* d) {
    (*static_cast<std::vector<uint32_t>*>(ctx))[i] = d->action;
  };
  PluginCall call(filter.name());
  ASSERT_EQ(table->judge(filter.get(), call.Begin(), &args), RETORT_OK);
  EXPECT_THAT(actions, testing::ElementsAre(RETORT_KEEP, RETORT_DROP, RETORT_KEEP));
}

}  // namespace
}  // namespace retort::host
