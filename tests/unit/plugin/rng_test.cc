// The SDK's generator gives the host's numbers, and Random123's known answers.
// SPDX-License-Identifier: Apache-2.0
#include "retort/sdk/rng.h"

#include <gtest/gtest.h>

#include "core/base/rng.h"

namespace retort::sdk {
namespace {

// Known answers of Random123 (kat_vectors, philox4x32 10).
TEST(Philox, KnownAnswers) {
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(Philox({0, 0, 0, 0}, 0, 0),
            (PhiloxWords{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox({kOnes, kOnes, kOnes, kOnes}, kOnes, kOnes),
            (PhiloxWords{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0),
            (PhiloxWords{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Rng, EqualsTheHosts) {
  const RngKey root = RootKey(42, "reward");
  const retort_key key = {root.hi, root.lo};
  const RngKey theirs = Derive(root, 7, 9);
  const retort_key ours = Mix(key, 7, 9);
  EXPECT_EQ(ours.hi, theirs.hi);
  EXPECT_EQ(ours.lo, theirs.lo);
  ::retort::Rng a(theirs);
  Rng b(ours);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(a.Next64(), b.Next());
  EXPECT_EQ(a.Uniform(), b.Uniform());
  EXPECT_EQ(a.Below(10), b.Below(10));
}

}  // namespace
}  // namespace retort::sdk
