// SPDX-License-Identifier: Apache-2.0
#include "core/train/schedule.h"

#include "tests/unit/engine/golden_values.h"

namespace retort::train {
namespace {

TEST(Schedule, EqualsTransformers) {
  const auto cases = engine::test::ReadGolden("tests/unit/train/schedules.golden");
  ASSERT_EQ(cases.size(), 8U);
  for (const auto& [name, want] : cases) {
    const size_t space = name.find(' ');
    ScheduleOptions options{.total_steps = 20, .warmup_steps = 4, .decay_steps = 6};
    options.kind = *ParseScheduleKind(name.substr(0, space));
    if (space != std::string::npos) options.decay_type = *ParseDecayType(name.substr(space + 1));
    const auto schedule = Schedule::Make(options);
    ASSERT_TRUE(schedule.ok()) << schedule.status().ToString();
    for (size_t k = 0; k < want.size(); ++k) {
      EXPECT_NEAR(schedule->Factor(static_cast<int64_t>(k)), want[k], 1e-15) << name << " " << k;
    }
  }
}

TEST(Schedule, RatiosAreRoundedUpToSteps) {
  const auto schedule =
      Schedule::Make({.kind = ScheduleKind::kWsd, .total_steps = 101, .warmup_ratio = 0.03});
  ASSERT_TRUE(schedule.ok());
  EXPECT_EQ(schedule->warmup_steps(), 4);
  EXPECT_EQ(schedule->decay_steps(), 11);
}

TEST(Schedule, WarmUpBeginsAtZeroAndOneStepIsEnoughForARun) {
  const auto schedule =
      Schedule::Make({.kind = ScheduleKind::kCosine, .total_steps = 10, .warmup_steps = 2});
  EXPECT_EQ(schedule->Factor(0), 0);
  EXPECT_EQ(schedule->Factor(2), 1);
  const auto single = Schedule::Make({.kind = ScheduleKind::kLinear, .total_steps = 1});
  EXPECT_EQ(single->Factor(0), 1);
}

void ExpectRefused(const ScheduleOptions& options, const std::string& rule) {
  const auto made = Schedule::Make(options);
  ASSERT_FALSE(made.ok());
  EXPECT_NE(made.status().message().find(rule), std::string::npos) << made.status().ToString();
}

TEST(Schedule, OptionsOutOfRangeAreRefusedByName) {
  ExpectRefused({.total_steps = 0}, "total_steps is 0");
  ExpectRefused({.total_steps = 5, .warmup_steps = -2}, "warmup_steps is -2");
  ExpectRefused({.total_steps = 5, .warmup_ratio = 1.5}, "warmup_ratio");
  ExpectRefused({.total_steps = 5, .min_lr_ratio = -0.1}, "min_lr_ratio");
  ExpectRefused({.kind = ScheduleKind::kWsd, .total_steps = 5, .warmup_steps = 4, .decay_steps = 2},
                "exceed the run's 5 steps");
  EXPECT_NE(ParseScheduleKind("cosin").status().message().find("cosine_with_min_lr"),
            std::string::npos);
  EXPECT_FALSE(ParseDecayType("sqrt").ok());
}

}  // namespace
}  // namespace retort::train
