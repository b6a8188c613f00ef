// Tables, short numbers and progress lines.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "host/report/progress.h"
#include "host/report/table.h"

namespace retort::host {
namespace {

using testing::HasSubstr;

class FakeClock : public Clock {
 public:
  int64_t MonotonicNs() const override { return now; }
  int64_t WallNs() const override { return now; }
  int64_t now = 1'000'000'000'000;
  void Pass(double seconds) { now += static_cast<int64_t>(seconds * 1e9); }
};

TEST(TableRender, ColumnsFitTheirCellsAndLinesEndInNoBlank) {
  Table table({{"name"}, {"n", Align::kRight}});
  table.AddRow({"a", "1,000"});
  table.AddRow({"größer", ""});
  EXPECT_EQ(table.Render(),
            "name        n\n"
            "------  -----\n"
            "a       1,000\n"
            "größer\n");
}

TEST(ShortNumber, KeepsAboutFourDigits) {
  EXPECT_EQ(ShortNumber(0), "0");
  EXPECT_EQ(ShortNumber(0.81339), "0.8134");
  EXPECT_EQ(ShortNumber(-12.3456), "-12.35");
  EXPECT_EQ(ShortNumber(123.456), "123.5");
  EXPECT_EQ(ShortNumber(123456), "123456");
  EXPECT_EQ(ShortNumber(0.000012), "1.2e-05");
  EXPECT_EQ(ShortNumber(std::numeric_limits<double>::quiet_NaN()), "-");
}

TEST(ShortBytes, HasBinaryUnits) {
  EXPECT_EQ(ShortBytes(512), "512 B");
  EXPECT_EQ(ShortBytes(1536), "1.5 KiB");
  EXPECT_EQ(ShortBytes(3.0 * 1024 * 1024 * 1024), "3.0 GiB");
}

TEST(GroupedInteger, HasACommaEveryThreeDigits) {
  EXPECT_EQ(GroupedInteger(0), "0");
  EXPECT_EQ(GroupedInteger(999), "999");
  EXPECT_EQ(GroupedInteger(-1234567), "-1,234,567");
}

ProgressState State(double done, double total) {
  return {.what = "cot", .done = done, .total = total, .unit = "samples"};
}

TEST(Progress, SaysRateAndTimeLeftFromWhereItStarted) {
  FakeClock clock;
  ProgressMeter meter(/*watched=*/true, clock);
  ASSERT_TRUE(meter.Update(State(100, 200)).has_value());  // a resumed stage
  clock.Pass(10);
  const auto line = meter.Update(State(120, 200));
  ASSERT_TRUE(line.has_value());
  EXPECT_EQ(line->fraction, 0.6);
  EXPECT_THAT(line->text, HasSubstr("cot  120/200 samples  2/s  ETA 40 s"));
}

TEST(Progress, ComesTenTimesASecondAtMostWhenWatched) {
  FakeClock clock;
  ProgressMeter meter(true, clock);
  EXPECT_TRUE(meter.Update(State(1, 10)).has_value());
  clock.Pass(0.05);
  EXPECT_FALSE(meter.Update(State(2, 10)).has_value());
  clock.Pass(0.06);
  EXPECT_TRUE(meter.Update(State(3, 10)).has_value());
  EXPECT_TRUE(meter.Update(State(10, 10)).has_value());   // the last always
  EXPECT_FALSE(meter.Update(State(10, 10)).has_value());  // once
}

TEST(Progress, ComesNowAndThenWhenPiped) {
  FakeClock clock;
  ProgressMeter meter(false, clock);
  EXPECT_FALSE(meter.Update(State(1, 100)).has_value());
  clock.Pass(5);
  EXPECT_FALSE(meter.Update(State(2, 100)).has_value());
  clock.Pass(5.1);
  EXPECT_TRUE(meter.Update(State(3, 100)).has_value());
  EXPECT_TRUE(meter.Update(State(100, 100)).has_value());
}

TEST(Progress, WithoutATotalThereIsNoTimeLeft) {
  FakeClock clock;
  ProgressMeter meter(true, clock);
  (void)meter.Update(State(0, 0));
  clock.Pass(2);
  const auto line = meter.Update(State(10, 0));
  ASSERT_TRUE(line.has_value());
  EXPECT_LT(line->fraction, 0);
  EXPECT_EQ(line->text, "cot  10 samples  5/s");
}

}  // namespace
}  // namespace retort::host
