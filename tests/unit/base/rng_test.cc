// SPDX-License-Identifier: Apache-2.0
#include "core/base/rng.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace retort {
namespace {

// The published known-answer vectors of Random123 (tests/kat_vectors, "philox4x32 10").
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(Philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Rng, WordsAreTheBlocksOfTheKey) {
  const RngKey key{0x0123456789abcdef, 0xfedcba9876543210};
  Rng rng(key);
  for (uint32_t block = 0; block < 3; ++block) {
    const PhiloxBlock want =
        Philox4x32({block, 0, 0x89abcdef, 0x01234567}, {0x76543210, 0xfedcba98});
    EXPECT_EQ(rng.Next64(), want[0] | uint64_t{want[1]} << 32);
    EXPECT_EQ(rng.Next64(), want[2] | uint64_t{want[3]} << 32);
  }
}

TEST(Rng, StartsAnywhere) {
  const RngKey key = RootKey(7, "stage");
  Rng all(key);
  for (uint64_t i = 0; i < 9; ++i) {
    const uint64_t word = all.Next64();
    EXPECT_EQ(Rng(key, i).Next64(), word);
    EXPECT_EQ(all.offset(), i + 1);
  }
}

TEST(Rng, KeysDifferInEveryPart) {
  std::set<std::pair<uint64_t, uint64_t>> seen;
  const auto add = [&](RngKey k) { EXPECT_TRUE(seen.emplace(k.hi, k.lo).second); };
  for (uint64_t seed : {0, 1}) {
    for (const char* stage : {"", "a", "b", "sft"}) {
      const RngKey root = RootKey(seed, stage);
      add(root);
      for (uint64_t a : {0, 1, 2}) {
        for (uint64_t b : {0, 1, 2}) add(Derive(root, a, b));
      }
      add(Derive(root, "purpose"));
    }
  }
  EXPECT_EQ(seen.size(), 2u * 4 * (1 + 9 + 1));
}

TEST(Rng, UniformIsInRangeAndEven) {
  Rng rng(RootKey(1, "uniform"));
  constexpr int kN = 100'000;
  double sum = 0, squares = 0;
  for (int i = 0; i < kN; ++i) {
    const double u = rng.Uniform();
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    squares += u * u;
  }
  // Five standard errors: sqrt(1/12/n) and sqrt(4/45/n).
  EXPECT_NEAR(sum / kN, 0.5, 5 * 0.289 / 316);
  EXPECT_NEAR(squares / kN, 1.0 / 3, 5 * 0.298 / 316);
}

TEST(Rng, NormalHasItsMoments) {
  Rng rng(RootKey(2, "normal"));
  constexpr int kN = 100'000;
  double moments[4] = {};
  for (int i = 0; i < kN; i += 2) {
    for (double x : rng.NormalPair()) {
      for (double power = x, *m = moments; m != moments + 4; ++m, power *= x) *m += power / kN;
    }
  }
  // Five standard errors: sqrt(1/n), sqrt(2/n), sqrt(15/n), sqrt(96/n).
  EXPECT_NEAR(moments[0], 0, 5 * 1.0 / 316);
  EXPECT_NEAR(moments[1], 1, 5 * 1.42 / 316);
  EXPECT_NEAR(moments[2], 0, 5 * 3.88 / 316);
  EXPECT_NEAR(moments[3], 3, 5 * 9.8 / 316);
}

TEST(Rng, BelowCoversItsRange) {
  Rng rng(RootKey(3, "below"));
  std::vector<int> counts(7);
  for (int i = 0; i < 70'000; ++i) ++counts[rng.Below(7)];
  for (int count : counts) EXPECT_NEAR(count, 10'000, 5 * 93);
  EXPECT_EQ(rng.Below(1), 0u);
  EXPECT_LT(rng.Below(uint64_t{1} << 63), uint64_t{1} << 63);
}

}  // namespace
}  // namespace retort
