// SPDX-License-Identifier: Apache-2.0
#include "core/train/schedule.h"

#include <sstream>

#include "tests/unit/engine/golden_values.h"

namespace retort::train {
namespace {

// Warm-up of no step, of all and in between; runs of one step. Names: steps, warm-up, decay, kind
// and maybe decay_type.
TEST(Schedule, EqualsTransformers) {
  const auto cases = engine::test::ReadGolden("tests/unit/train/schedules.golden");
  ASSERT_EQ(cases.size(), 66U);
  for (const auto& [name, want] : cases) {
    ScheduleOptions options{.num_cycles = 3, .power = 2};
    std::string kind, decay_type;
    std::istringstream words(name);
    words >> options.total_steps >> options.warmup_steps >> options.decay_steps >> kind;
    options.kind = *ParseScheduleKind(kind);
    if (words >> decay_type) options.decay_type = *ParseDecayType(decay_type);
    const auto schedule = Schedule::Make(options);
    ASSERT_TRUE(schedule.ok()) << schedule.status().ToString();
    ASSERT_EQ(want.size(), static_cast<size_t>(options.total_steps));
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
  ExpectRefused({.total_steps = 5, .num_cycles = 0}, "num_cycles is 0");
  ExpectRefused({.total_steps = 5, .power = 0}, "power");
  ExpectRefused({.kind = ScheduleKind::kWsd, .total_steps = 5, .warmup_steps = 4, .decay_steps = 2},
                "exceed the run's 5 steps");
  EXPECT_NE(ParseScheduleKind("cosin").status().message().find("cosine_with_min_lr"),
            std::string::npos);
  EXPECT_FALSE(ParseDecayType("sqrt").ok());
}

}  // namespace
}  // namespace retort::train
