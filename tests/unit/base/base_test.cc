// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <vector>

#include "core/base/checked.h"
#include "core/base/clock.h"
#include "core/base/hash.h"
#include "core/base/threads.h"

namespace retort {
namespace {

TEST(Checked, ArithmeticRefusesToWrap) {
  uint64_t out = 5;
  EXPECT_FALSE(CheckedMul(uint64_t{1} << 33, uint64_t{1} << 31, &out));
  EXPECT_EQ(out, 5u);
  EXPECT_TRUE(CheckedMul(uint64_t{1} << 32, uint64_t{1} << 31, &out));
  EXPECT_EQ(out, uint64_t{1} << 63);
  EXPECT_FALSE(CheckedAdd(std::numeric_limits<uint64_t>::max(), uint64_t{1}, &out));
}

TEST(Checked, NumelRefusesNegativeAndHuge) {
  int64_t n = 0;
  const std::vector<int64_t> fine = {3, 0, 1}, negative = {2, -1};
  const std::vector<int64_t> huge = {int64_t{1} << 32, int64_t{1} << 31};
  EXPECT_TRUE(CheckedNumel(fine, &n));
  EXPECT_EQ(n, 0);
  EXPECT_TRUE(CheckedNumel({}, &n));
  EXPECT_EQ(n, 1);
  EXPECT_FALSE(CheckedNumel(negative, &n));
  EXPECT_FALSE(CheckedNumel(huge, &n));
}

TEST(Checked, RangeFitsAtTheEdges) {
  EXPECT_TRUE(RangeFits(0, 8, 8));
  EXPECT_TRUE(RangeFits(8, 0, 8));
  EXPECT_FALSE(RangeFits(1, 8, 8));
  EXPECT_FALSE(RangeFits(9, 0, 8));
  EXPECT_FALSE(RangeFits(8, std::numeric_limits<uint64_t>::max(), 8));
}

// Values of the xxHash specification's reference implementation.
TEST(Hash, KnownAnswers) {
  EXPECT_EQ(HashHex(""), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(XxHash64(""), 0xef46db3751d8e999u);
  EXPECT_EQ(XxHash64("abc"), 0x44bc2cf5ad770999u);
  EXPECT_EQ(Hex64(0xef46db3751d8e999u), "ef46db3751d8e999");
}

TEST(Hash, PiecesHashAsTheWhole) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += std::to_string(i);
  Hasher hasher;
  for (size_t at = 0, n = 1; at < text.size(); at += n, n = n * 3 % 1009 + 1) {
    hasher.Update(std::string_view(text).substr(at, n));
  }
  EXPECT_EQ(hasher.Hex(), HashHex(text));
  Hasher a, b;
  a.UpdateSized("ab"), a.UpdateSized("c");
  b.UpdateSized("a"), b.UpdateSized("bc");
  EXPECT_NE(a.Hex(), b.Hex());
}

TEST(Clock, FormatsForPeople) {
  EXPECT_EQ(FormatUtc(0), "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(FormatUtc(1'767'225'599'999'000'000), "2025-12-31T23:59:59.999Z");
  EXPECT_EQ(FormatUtc(-1'000'000), "1969-12-31T23:59:59.999Z");
  EXPECT_EQ(FormatSeconds(0.44), "0.4 s");
  EXPECT_EQ(FormatSeconds(59.2), "59 s");
  EXPECT_EQ(FormatSeconds(184), "3 min 04 s");
  EXPECT_EQ(FormatSeconds(7800), "2 h 10 min");
}

TEST(Clock, MonotonicNeverGoesBack) {
  const int64_t before = RealClock().MonotonicNs();
  EXPECT_GE(RealClock().MonotonicNs(), before);
}

TEST(Threads, CountsAreSane) {
  EXPECT_GE(AvailableCores(), 1);
  EXPECT_EQ(ResolveThreads(0), AvailableCores());
  EXPECT_EQ(ResolveThreads(1), 1);
  EXPECT_EQ(ResolveThreads(1'000'000), AvailableCores() * 4);
}

TEST(Threads, ParallelForCoversEachIndexOnce) {
  for (int32_t n_threads : {0, 1, 3, 8}) {
    for (int64_t n : {0, 1, 2, 7, 100}) {
      std::vector<std::atomic<int>> hits(static_cast<size_t>(n));
      ParallelFor(n, n_threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
      });
      for (const auto& hit : hits) EXPECT_EQ(hit, 1);
    }
  }
}

}  // namespace
}  // namespace retort
