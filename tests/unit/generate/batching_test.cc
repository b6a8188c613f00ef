// Company changes no sample: slots, chunks, blocks, memory and threads against each other, and
// against a forward pass without a cache.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "core/generate/kv_cache.h"
#include "core/generate/request_queue.h"
#include "tests/unit/generate/tiny_model.h"

namespace retort::generate {
namespace {

using engine::Completion;
using engine::Finish;
using engine::GenerateOptions;
using engine::GenerateRequest;
using testing::HasSubstr;

void ExpectSame(const Completion& a, const Completion& b) {
  EXPECT_EQ(a.ids, b.ids);
  EXPECT_EQ(a.logp, b.logp);  // to the bit
  EXPECT_EQ(a.finish, b.finish);
}

void ExpectSame(const TinyModel::Output& a, const TinyModel::Output& b) {
  ASSERT_EQ(a.done.size(), b.done.size());
  for (size_t i = 0; i < a.done.size(); ++i) {
    SCOPED_TRACE(i);
    ExpectSame(a.done[i], b.done[i]);
  }
}

// Prompts and completions of many lengths, greedy and not, some with several samples.
std::vector<GenerateRequest> ManyRequests() {
  std::vector<GenerateRequest> requests;
  for (uint64_t uid = 0; uid < 30; ++uid) {
    requests.push_back(Request(uid, 1 + int64_t(uid * 17 % 150), 3 + int32_t(uid * 7 % 40),
                               uid % 3 == 0 ? 0 : 0.9));
    requests.back().n_samples = uid % 5 == 0 ? 3 : 1;
  }
  return requests;
}

TEST(Batching, TheNumberOfSlotsChangesNoBit) {
  TinyModel model;
  const auto requests = ManyRequests();
  const auto one = model.Run(requests, {.max_batch = 1});
  ASSERT_EQ(one.done.size(), 42u);
  EXPECT_EQ(one.stats.live_peak, 1);
  for (int32_t slots : {2, 7, 16, 33}) {
    SCOPED_TRACE(slots);
    const auto many = model.Run(requests, {.max_batch = slots});
    ExpectSame(many, one);
    EXPECT_EQ(many.stats.live_peak, slots);
    EXPECT_EQ(many.stats.prompt_tokens, one.stats.prompt_tokens);
  }
}

TEST(Batching, TheNumberOfThreadsChangesNoBit) {
  TinyModel two, one({.n_threads = 1});
  const auto requests = ManyRequests();
  ExpectSame(two.Run(requests, {.max_batch = 7}), one.Run(requests, {.max_batch = 7}));
}

// Chunks go through other matrix products: up to their rounding.
TEST(Batching, TheSizeOfPrefillChunksChangesNoToken) {
  TinyModel model;
  const auto requests = ManyRequests();
  const auto whole = model.Run(requests, {.prefill_chunk = 512});
  for (int32_t chunk : {1, 5, 64}) {
    SCOPED_TRACE(chunk);
    const auto cut = model.Run(requests, {.prefill_chunk = chunk});
    ASSERT_EQ(cut.done.size(), whole.done.size());
    for (size_t i = 0; i < cut.done.size(); ++i) {
      EXPECT_EQ(cut.done[i].ids, whole.done[i].ids) << i;
      for (size_t t = 0; t < cut.done[i].logp.size(); ++t) {
        EXPECT_NEAR(cut.done[i].logp[t], whole.done[i].logp[t], 1e-4F);
      }
    }
    ExpectSame(model.Run(requests, {.max_batch = 3, .prefill_chunk = chunk}), cut);
  }
}

// logits of each token of prompt + completion without a cache: the tokens must be their argmax.
TEST(Batching, BlockBoundariesDecodeAsTheForwardPass) {
  TinyModel model({.window = 70});
  std::vector<GenerateRequest> requests;
  for (int64_t prompt : {1, 62, 63, 64, 65, 127, 128, 129}) {
    for (int32_t tokens : {1, 2, 64, 66}) {
      requests.push_back(Request(requests.size(), prompt, tokens, 0));
      requests.back().n_samples = 2;
    }
  }
  const auto out = model.Run(requests, {.max_batch = 5});
  ASSERT_EQ(out.done.size(), 2 * requests.size());
  const auto vocab = static_cast<size_t>(model.graph().vocab());
  for (const Completion& done : out.done) {
    const GenerateRequest& request = requests[done.uid];
    EXPECT_EQ(done.ids.size(), size_t(request.sampling.max_tokens));
    std::vector<int32_t> ids = request.ids;
    ids.insert(ids.end(), done.ids.begin(), done.ids.end());
    const std::vector<float> logits = model.FullLogits(ids);
    for (size_t t = 0; t < done.ids.size(); ++t) {
      const float* row = logits.data() + (request.ids.size() + t - 1) * vocab;
      EXPECT_EQ(std::max_element(row, row + vocab) - row, done.ids[t]) << done.uid << " " << t;
    }
  }
}

TEST(Batching, MemoryForOneSequenceRunsThemOneByOne) {
  TinyModel model;
  std::vector<GenerateRequest> requests = ManyRequests();
  const int64_t block = KvCache::BytesPerBlock(model.graph(), DType::kF32).value();
  const auto free_run = model.Run(requests, {.max_batch = 8});
  EXPECT_EQ(free_run.stats.live_peak, 8);
  const int64_t longest = (LongestRequest(requests) + 62) / 64;
  GenerateOptions options = {.max_batch = 8, .kv_memory = longest * block};
  const auto tight = model.Run(requests, options);
  ExpectSame(tight, free_run);
  EXPECT_LT(tight.stats.live_peak, 8);
  EXPECT_EQ(tight.stats.kv_blocks, longest);
  EXPECT_LE(tight.stats.kv_blocks_peak, longest);
  std::vector<GenerateRequest> alike(5, Request(0, 100, 25, 0.9));
  for (uint64_t uid = 0; uid < 5; ++uid) alike[uid].uid = uid;
  alike[2].n_samples = 3;
  options.kv_memory = 2 * block;
  const auto single = model.Run(alike, options);
  ExpectSame(single, model.Run(alike));
  EXPECT_EQ(single.stats.prompt_tokens, 500);
  EXPECT_EQ(single.stats.live_peak, 1);
  EXPECT_EQ(single.stats.kv_blocks_peak, 2);
}

TEST(Batching, WhatExceedsKvMemoryIsRefusedAndOthersGoOn) {
  TinyModel model;
  std::vector<GenerateRequest> requests = {Request(1, 10, 20, 0), Request(2, 200, 20, 0),
                                           Request(3, 5, 20, 0)};
  const int64_t block = KvCache::BytesPerBlock(model.graph(), DType::kF32).value();
  const auto out = model.Run(requests, {.kv_memory = 3 * block});
  EXPECT_EQ(out.done[0].ids.size(), 20u);
  EXPECT_EQ(out.done[2].ids.size(), 20u);
  EXPECT_EQ(out.done[1].finish, Finish::kError);
  EXPECT_THAT(out.done[1].error, HasSubstr("200 tokens"));
  EXPECT_THAT(out.done[1].error, HasSubstr("need 4 blocks"));
  EXPECT_THAT(out.done[1].error, HasSubstr("room for 3"));
  EXPECT_THAT(out.done[1].error, HasSubstr("raise kv_memory"));
}

TEST(Batching, EightSamplesOfAPromptCostOnePrefillEightPromptsEight) {
  TinyModel model;
  GenerateRequest shared = Request(0, 96, 10, 1);
  shared.n_samples = 8;
  std::vector<GenerateRequest> apart(8, Request(0, 96, 10, 1));
  for (uint64_t uid = 0; uid < 8; ++uid) apart[uid].uid = uid;
  for (int32_t slots : {1, 3, 8}) {
    const auto one = model.Run({&shared, 1}, {.max_batch = slots});
    const auto eight = model.Run(apart, {.max_batch = slots});
    EXPECT_EQ(one.stats.prompt_tokens * 8, eight.stats.prompt_tokens);
    EXPECT_EQ(one.stats.prefill_passes * 8, eight.stats.prefill_passes);
    EXPECT_EQ(one.stats.completion_tokens, eight.stats.completion_tokens);
    if (slots == 8) {
      EXPECT_EQ(one.stats.kv_blocks_peak, 1 + 8);
      EXPECT_EQ(eight.stats.kv_blocks_peak, 2 * 8);
    }
  }
}

// Log-probabilities of the f32 run's tokens as long as the other run takes the same. The model's
// weights are large (deviation 0.3), so it makes much of every rounding.
class SmallCache : public testing::TestWithParam<std::pair<DType, double>> {};

TEST_P(SmallCache, StaysCloseToFloats) {
  TinyModel model;
  const auto [dtype, tolerance] = GetParam();
  const auto requests = ManyRequests();
  const auto exact = model.Run(requests);
  GenerateOptions options;
  options.kv_dtype = dtype;
  const auto small = model.Run(requests, options);
  EXPECT_LT(small.stats.kv_block_bytes, exact.stats.kv_block_bytes * 2 / 3);
  int64_t compared = 0;
  double worst = 0;
  for (size_t i = 0; i < exact.done.size(); ++i) {
    const Completion &a = exact.done[i], &b = small.done[i];
    for (size_t t = 0; t < a.ids.size() && a.ids[t] == b.ids[t]; ++t, ++compared) {
      worst = std::max(worst, std::abs(double(a.logp[t]) - double(b.logp[t])));
    }
  }
  RecordProperty("worst", std::to_string(worst));
  EXPECT_GT(compared, 200);
  EXPECT_LT(worst, tolerance);
  EXPECT_GT(worst, 0);
  options.max_batch = 3;  // rounding is of each row: company still changes nothing
  ExpectSame(model.Run(requests, options), small);
}

INSTANTIATE_TEST_SUITE_P(Types, SmallCache,
                         testing::Values(std::pair(DType::kBF16, 0.1), std::pair(DType::kI8, 0.5)));

TEST(Batching, ALongPromptDoesNotStallASampleBesideIt) {
  TinyModel model;
  const std::vector<GenerateRequest> requests = {Request(1, 5, 12, 0), Request(2, 1000, 3, 0)};
  std::vector<uint64_t> done;
  int64_t tokens_at_first = 0, tokens = 0;
  GenerateOptions options = {.max_batch = 2, .prefill_chunk = 64};
  options.on_progress = [&](int64_t n) { tokens = n; };
  options.on_text = {};
  engine::GenerateStats stats;
  options.on_done = [&](const Completion& c) {
    if (done.empty()) tokens_at_first = tokens;
    done.push_back(c.uid);
  };
  stats = Generate(model.inference(), model.graph(), requests, options, 2).value();
  EXPECT_EQ(done, (std::vector<uint64_t>{1, 2}));
  EXPECT_EQ(tokens_at_first, 11);  // before its last step: its own alone, the other had none yet
  EXPECT_EQ(stats.prefill_passes, 1 + 16);
}

TEST(Batching, ARequestIsCancelledAloneWhereverItStands) {
  TinyModel model;
  std::vector<GenerateRequest> requests = {Request(0, 10, 30, 1), Request(1, 10, 30, 1),
                                           Request(2, 400, 30, 1), Request(3, 10, 30, 1)};
  const auto untouched = model.Run(requests);
  for (size_t victim = 0; victim < 4; ++victim) {
    for (int64_t after : {0, 4, 31}) {
      engine::Cancel cancel = after == 0;
      requests[victim].cancel = &cancel;
      GenerateOptions options = {.max_batch = 2, .prefill_chunk = 64};
      options.on_progress = [&](int64_t tokens) { cancel = tokens >= after; };
      const auto out = model.Run(requests, options);
      ASSERT_EQ(out.done.size(), 4u);
      for (size_t i = 0; i < 4; ++i) {
        SCOPED_TRACE(std::to_string(victim) + " " + std::to_string(after));
        if (i != victim) {
          EXPECT_EQ(out.done[i].ids, untouched.done[i].ids);
          continue;
        }
        EXPECT_EQ(out.done[i].finish, Finish::kCancelled);
        EXPECT_LT(out.done[i].ids.size(), 30u);
        EXPECT_TRUE(std::equal(out.done[i].ids.begin(), out.done[i].ids.end(),
                               untouched.done[i].ids.begin()));
      }
      requests[victim].cancel = nullptr;
    }
  }
}

}  // namespace
}  // namespace retort::generate
