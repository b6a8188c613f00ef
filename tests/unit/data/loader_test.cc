// The loader: labels and positions of packed rows, window sizes, order, exact resume.
// SPDX-License-Identifier: Apache-2.0
#include "core/data/loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <vector>

#include "core/base/rng.h"

namespace retort::data {
namespace {

// Example i: ids i*100, i*100+1, …; the first `prompt` tokens untrained.
SftExample Example(int32_t i, size_t length, size_t prompt) {
  SftExample example;
  example.uid = static_cast<uint64_t>(i);
  for (size_t t = 0; t < length; ++t) {
    example.ids.push_back(i * 100 + static_cast<int32_t>(t));
    example.trained.push_back(t >= prompt ? 1 : 0);
  }
  return example;
}

std::vector<SftExample> Many(size_t n) {
  Rng rng(RootKey(9, "loader_test"));
  std::vector<SftExample> examples;
  for (size_t i = 0; i < n; ++i) {
    examples.push_back(Example(static_cast<int32_t>(i), 2 + rng.Below(30), 1));
  }
  return examples;
}

Loader Make(const std::vector<SftExample>& examples, const LoaderOptions& options) {
  auto loader = Loader::Create(examples, options);
  EXPECT_TRUE(loader.ok()) << loader.status().ToString();
  return std::move(loader).value();
}

bool Equal(const std::vector<PackedBatch>& a, const std::vector<PackedBatch>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.ids == y.ids && x.positions == y.positions && x.cu_seqlens == y.cu_seqlens &&
           x.labels == y.labels && x.weight == y.weight;
  });
}

TEST(Loader, PackedRowsKeepDocumentsApart) {
  // Written by hand: labels are the next token where it is trained, never across a border.
  const std::vector<SftExample> examples = {Example(1, 3, 1), Example(2, 4, 2)};
  Loader loader = Make(examples, {.max_length = 8, .shuffle = false, .batch_tokens = 8});
  const auto window = loader.Next();
  ASSERT_EQ(window.size(), 1U);
  const PackedBatch& b = window[0];
  EXPECT_EQ(b.ids, (std::vector<int32_t>{200, 201, 202, 203, 100, 101, 102}));
  EXPECT_EQ(b.positions, (std::vector<int32_t>{0, 1, 2, 3, 0, 1, 2}));
  EXPECT_EQ(b.cu_seqlens, (std::vector<int32_t>{0, 4, 7}));
  EXPECT_EQ(b.labels, (std::vector<int64_t>{-100, 202, 203, -100, 101, 102, -100}));
  EXPECT_EQ(b.weight, (std::vector<float>{0, 1, 1, 0, 1, 1, 0}));
}

TEST(Loader, EveryDocumentOncePerEpochInAnotherOrder) {
  const auto examples = Many(300);
  Loader loader =
      Make(examples, {.seed = 3, .max_length = 64, .packing_window = 50, .batch_tokens = 500});
  std::vector<std::vector<int32_t>> orders;
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    std::map<int32_t, int> seen;
    std::vector<int32_t> order;
    const int64_t steps = loader.StepsOf(epoch);
    for (int64_t s = 0; s < steps; ++s) {
      for (const PackedBatch& batch : loader.Next()) {
        for (size_t t = 0; t < batch.ids.size(); ++t) {
          if (batch.positions[t] == 0) order.push_back(batch.ids[t] / 100);
        }
      }
      EXPECT_EQ(loader.state().epoch, epoch);
    }
    for (int32_t i : order) ++seen[i];
    EXPECT_EQ(seen.size(), examples.size());
    EXPECT_EQ(order.size(), examples.size());
    orders.push_back(order);
  }
  EXPECT_NE(orders[0], orders[1]);
}

TEST(Loader, WindowsStayWithinBatchTokens) {
  const auto examples = Many(200);
  Loader loader = Make(examples, {.max_length = 64, .batch_tokens = 256, .micro_tokens = 128});
  const int64_t steps = loader.StepsOf(int64_t{0});
  for (int64_t s = 0; s < steps; ++s) {
    size_t tokens = 0;
    for (const PackedBatch& batch : loader.Next()) {
      EXPECT_LE(batch.ids.size(), 128U);
      EXPECT_EQ(batch.cu_seqlens.back(), static_cast<int32_t>(batch.ids.size()));
      EXPECT_EQ(batch.labels.size(), batch.ids.size());
      tokens += batch.ids.size();
    }
    EXPECT_LE(tokens, 256U);
    // A row of 64 more would have fitted only if little was left.
    if (s + 1 < steps) {
      EXPECT_GT(tokens, 256U - 64U);
    }
  }
}

TEST(Loader, SequencesPerDeviceAndAccumulation) {
  const auto examples = Many(10);
  Loader loader = Make(
      examples, {.max_length = 64, .packing = Packing::kNone, .per_device = 2, .accumulation = 3});
  const auto first = loader.Next();
  ASSERT_EQ(first.size(), 3U);
  for (const PackedBatch& batch : first) EXPECT_EQ(batch.cu_seqlens.size(), 3U);
  const auto second = loader.Next();  // four are left
  ASSERT_EQ(second.size(), 2U);
  EXPECT_EQ(loader.StepsOf(int64_t{0}), 2);
}

TEST(Loader, RestoredLoaderGivesEqualWindows) {
  const auto examples = Many(120);
  const LoaderOptions options{
      .seed = 7, .stage = 5, .max_length = 48, .packing_window = 40, .batch_tokens = 200};
  Loader whole = Make(examples, options);
  std::vector<std::vector<PackedBatch>> windows;
  std::vector<LoaderState> states;
  for (int s = 0; s < 40; ++s) {  // several epochs
    states.push_back(whole.state());
    windows.push_back(whole.Next());
  }
  EXPECT_GT(states.back().epoch, 1);
  for (size_t s = 0; s < windows.size(); ++s) {
    Loader resumed = Make(examples, options);
    ASSERT_TRUE(resumed.Restore(states[s]).ok());
    for (size_t n = s; n < std::min(s + 3, windows.size()); ++n) {
      EXPECT_TRUE(Equal(resumed.Next(), windows[n])) << s << " " << n;
    }
  }
}

TEST(Loader, SeedAndStageChangeTheOrder) {
  const auto examples = Many(100);
  const auto first = [&](LoaderOptions options) {
    options.batch_tokens = 1 << 20;
    return Make(examples, options).Next();
  };
  EXPECT_TRUE(Equal(first({.seed = 1}), first({.seed = 1})));
  EXPECT_FALSE(Equal(first({.seed = 1}), first({.seed = 2})));
  EXPECT_FALSE(Equal(first({.seed = 1}), first({.seed = 1, .stage = 1})));
}

TEST(Loader, MixtureWeightsCountPasses) {
  const auto examples = Many(100);
  Loader loader = Make(
      examples, {.batch_tokens = 1 << 20, .source_ends = {40, 100}, .source_weights = {2.0, 0.5}});
  std::map<int32_t, int> seen;
  for (const PackedBatch& batch : loader.Next()) {
    for (size_t t = 0; t < batch.ids.size(); ++t) {
      if (batch.positions[t] == 0) ++seen[batch.ids[t] / 100];
    }
  }
  int second = 0;
  for (const auto& [document, count] : seen) {
    EXPECT_EQ(count, document < 40 ? 2 : 1);
    second += document >= 40 ? 1 : 0;
  }
  EXPECT_EQ(second, 30);
}

TEST(Loader, RowsWithoutLabelsAreLeftOut) {
  const std::vector<SftExample> examples = {Example(1, 5, 5), Example(2, 3, 1)};
  Loader loader = Make(examples, {.max_length = 8, .packing = Packing::kNone, .batch_tokens = 100});
  const auto window = loader.Next();
  ASSERT_EQ(window.size(), 1U);
  EXPECT_EQ(window[0].ids, (std::vector<int32_t>{200, 201, 202}));
}

TEST(Loader, StepsOfPartsOfEpochs) {
  const auto examples = Many(100);
  const Loader loader = Make(examples, {.max_length = 64, .batch_tokens = 128});
  const int64_t one = loader.StepsOf(int64_t{0}), two = loader.StepsOf(int64_t{1});
  EXPECT_EQ(loader.StepsOf(1.0), one);
  EXPECT_EQ(loader.StepsOf(2.0), one + two);
  EXPECT_EQ(loader.StepsOf(0.5), (one + 1) / 2);
}

TEST(Loader, WrongOptionsAreRefused) {
  const auto examples = Many(3);
  const auto fails = [&](const LoaderOptions& options, std::string_view key) {
    const auto loader = Loader::Create(examples, options);
    ASSERT_FALSE(loader.ok());
    EXPECT_NE(loader.status().message().find(key), std::string::npos) << loader.status().message();
  };
  fails({.max_length = 0}, "max_length");
  fails({.packing_window = 0}, "packing_window");
  fails({.batch_tokens = -1}, "batch_tokens");
  fails({.per_device = -2}, "per_device");
  fails({.per_device = 2, .accumulation = 0}, "accumulation");
  fails({.source_ends = {3}, .source_weights = {-1}}, "weight");
  fails({.source_ends = {2}, .source_weights = {1}}, "cover");
  fails({.max_length = 1}, "max_length 1");  // no token is left to predict
  EXPECT_FALSE(Loader::Create({}, {}).ok());
  Loader loader = Make(examples, {});
  EXPECT_FALSE(loader.Restore({.epoch = 0, .row = 1000}).ok());
  EXPECT_FALSE(loader.Restore({.epoch = -1, .row = 0}).ok());
}

}  // namespace
}  // namespace retort::data
