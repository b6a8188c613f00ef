// Halving against a model of a plugin: a set of bad units, and what each attempt would give.
// SPDX-License-Identifier: Apache-2.0
#include "host/worker/halving.h"

#include <gtest/gtest.h>

#include <bit>
#include <set>
#include <vector>

namespace retort::host {
namespace {

// What is true of a unit, and what halving said about it.
struct Model {
  std::set<uint64_t> bad = {};
  Attempt how = Attempt::kFailed;
  int max_in_a_row = 3;
  int attempts = 0, failures = 0, in_a_row = 0;
  std::vector<int> good = {}, marked = {};

  HalvingEnd Run(uint64_t n) {
    good.assign(n, 0);
    marked.assign(n, 0);
    return Halve(n, {.attempt = [this](uint64_t first, uint64_t k) { return Try(first, k); },
                     .mark =
                         [this](uint64_t first, uint64_t k, Attempt) {
                           for (uint64_t i = first; i < first + k; ++i) ++marked[i];
                         },
                     .exhausted = [this] { return in_a_row >= max_in_a_row; },
                     .n_probes = 3});
  }
  Attempt Try(uint64_t first, uint64_t n) {
    ++attempts;
    const auto found = bad.lower_bound(first);
    if (found != bad.end() && *found < first + n) {
      ++failures;
      ++in_a_row;
      return how;
    }
    in_a_row = 0;
    for (uint64_t i = first; i < first + n; ++i) ++good[i];
    return Attempt::kGood;
  }
  // Each unit was in exactly one good attempt or was marked once, and only bad ones were marked.
  void ExpectExact() const {
    for (uint64_t i = 0; i < good.size(); ++i) {
      const bool is_bad = bad.contains(i);
      EXPECT_EQ(good[i], is_bad ? 0 : 1) << i;
      EXPECT_EQ(marked[i], is_bad ? 1 : 0) << i;
    }
  }
};

TEST(Halving, AGoodBatchIsOneAttempt) {
  Model model;
  EXPECT_EQ(model.Run(64), HalvingEnd::kDone);
  EXPECT_EQ(model.attempts, 1);
  model.ExpectExact();
}

TEST(Halving, OneBadUnitIsFoundWhereverItIsAndHoweverItFails) {
  for (const Attempt how : {Attempt::kFailed, Attempt::kTimedOut, Attempt::kTooLarge}) {
    for (const uint64_t n : {1, 2, 3, 5, 13, 64, 100}) {
      for (uint64_t at = 0; at < n; ++at) {
        Model model{.bad = {at}, .how = how};
        EXPECT_EQ(model.Run(n), HalvingEnd::kDone) << n << " " << at;
        model.ExpectExact();
        EXPECT_LE(model.failures, std::bit_width(n) + 1);
      }
    }
  }
}

TEST(Halving, AnyTwoBadUnitsOf64AreFound) {
  for (uint64_t a = 0; a < 64; ++a) {
    for (uint64_t b = a + 1; b < 64; ++b) {
      Model model{.bad = {a, b}};
      EXPECT_EQ(model.Run(64), HalvingEnd::kDone) << a << " " << b;
      model.ExpectExact();
    }
  }
}

TEST(Halving, AllBadIsOutAfterAFewAttempts) {
  Model model;
  for (uint64_t i = 0; i < 512; ++i) model.bad.insert(i);
  EXPECT_EQ(model.Run(512), HalvingEnd::kOut);
  EXPECT_LE(model.attempts, 6);
  for (const int times : model.marked) EXPECT_EQ(times, 1);
}

TEST(Halving, TimeoutsOfACallAreBounded) {
  Model model{.how = Attempt::kTimedOut};
  for (uint64_t i = 0; i < 64; i += 2) model.bad.insert(i);
  model.max_in_a_row = 1000;  // never exhausted
  EXPECT_EQ(model.Run(64), HalvingEnd::kDone);
  EXPECT_LE(model.failures, 9);  // log2(64) + 2, and the one that says enough
  for (size_t i = 0; i < 64; ++i) EXPECT_EQ(model.good[i] + model.marked[i], 1) << i;
}

TEST(Halving, StopEndsIt) {
  int attempts = 0;
  const HalvingEnd end = Halve(
      8, {.attempt = [&](uint64_t,
                         uint64_t) { return ++attempts == 3 ? Attempt::kStop : Attempt::kFailed; },
          .mark = [](uint64_t, uint64_t, Attempt) {},
          .exhausted = [] { return false; }});
  EXPECT_EQ(end, HalvingEnd::kStopped);
  EXPECT_EQ(attempts, 3);
}

}  // namespace
}  // namespace retort::host
