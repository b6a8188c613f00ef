// retort_call as the host builds it.
// SPDX-License-Identifier: Apache-2.0
#include "core/base/plugin_call.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

namespace retort {
namespace {

TEST(PluginCall, CarriesItsSettings) {
  PluginCall call("loss x");
  const std::atomic<int32_t> cancel{1};
  const retort_call* c =
      call.Begin({.cancel = &cancel, .deadline_ns = 5, .step = 7, .key = {1, 2}, .n_threads = 3});
  EXPECT_EQ(c->struct_size, sizeof(retort_call));
  EXPECT_EQ(*c->cancel, 1);
  EXPECT_EQ(c->deadline_ns, 5);
  EXPECT_EQ(c->step, 7);
  EXPECT_EQ(c->key.lo, 2u);
  EXPECT_EQ(c->n_threads, 3);
  EXPECT_EQ(c->stream, nullptr);
}

TEST(PluginCall, FailureNamesPluginAttemptAndReason) {
  PluginCall call("reward x");
  const retort_call* c = call.Begin();
  c->error(c->ctx, RETORT_INTERNAL, ToStr("first"));
  c->error(c->ctx, RETORT_INTERNAL, ToStr("the reason"));
  const Status status = call.End(RETORT_NOT_FOUND, "score");
  EXPECT_EQ(status.code(), Code::kNotFound);
  EXPECT_EQ(status.message(), "reward x: score: the reason");
  call.Begin();
  EXPECT_EQ(call.error_text(), "");
}

TEST(PluginCall, SilenceAndUnknownCodesAreSaid) {
  PluginCall call("reward x");
  call.Begin();
  const Status status = call.End(99, "score");
  EXPECT_EQ(status.code(), Code::kUnknown);
  EXPECT_EQ(status.message(),
            "reward x: score: failed with status 99 (UNKNOWN) and gave no reason");
  EXPECT_TRUE(call.End(RETORT_OK, "score").ok());
}

TEST(PluginCall, EndlessErrorTextIsCut) {
  PluginCall call("reward x");
  const retort_call* c = call.Begin();
  const std::string text(100'000, 'x');
  c->error(c->ctx, RETORT_INTERNAL, ToStr(text));
  EXPECT_EQ(call.error_text().size(), 4096u);
}

TEST(PluginCall, MetricsAddUpByName) {
  PluginCall call("loss x");
  const retort_call* c = call.Begin();
  c->metric(c->ctx, ToStr("a"), 3, 2);
  c->metric(c->ctx, ToStr("b"), 1, 1);
  c->metric(c->ctx, ToStr("a"), 5, 2);
  c->metric(c->ctx, ToStr("a"), std::numeric_limits<double>::quiet_NaN(), 1);
  ASSERT_EQ(call.metrics().size(), 2u);
  EXPECT_EQ(call.metrics()[0].name, "a");
  EXPECT_DOUBLE_EQ(call.metrics()[0].mean(), 2);
  call.ClearMetrics();
  EXPECT_TRUE(call.metrics().empty());
}

TEST(PluginCall, MoreMetricsThanItHoldsAreDropped) {
  PluginCall call("loss x");
  const retort_call* c = call.Begin();
  for (int i = 0; i < 1000; ++i) {
    const std::string name = "metric " + std::to_string(i);
    c->metric(c->ctx, ToStr(name), 1, 1);
  }
  EXPECT_EQ(call.metrics().size(), 64u);
}

TEST(PluginCall, ScratchIsAlignedDisjointAndReused) {
  PluginCall call("loss x");
  std::vector<void*> first;
  for (int round = 0; round < 3; ++round) {
    const retort_call* c = call.Begin();
    std::vector<void*> blocks;
    for (const uint64_t bytes : {1, 64, 100'000, 5, 3'000'000}) {
      for (const uint64_t alignment : {1, 64, 4096}) {
        void* p = c->scratch(c->ctx, bytes, alignment);
        ASSERT_NE(p, nullptr);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % alignment, 0u);
        std::memset(p, round, bytes);
        for (void* other : blocks) EXPECT_NE(p, other);
        blocks.push_back(p);
      }
    }
    if (round == 1) first = blocks;
    if (round == 2) {
      EXPECT_EQ(blocks, first) << "a third call of the same sizes allocates nothing";
    }
  }
}

TEST(PluginCall, ScratchRefusesNonsense) {
  PluginCall call("loss x");
  const retort_call* c = call.Begin();
  EXPECT_EQ(c->scratch(c->ctx, 8, 3), nullptr);
  EXPECT_EQ(c->scratch(c->ctx, 8, 8192), nullptr);
  EXPECT_EQ(c->scratch(c->ctx, std::numeric_limits<uint64_t>::max(), 8), nullptr);
}

TEST(PluginCall, LinesAndProgressGoToTheSinks) {
  std::string lines;
  PluginCall call("loss x", {.log =
                                 [&](int32_t level, std::string_view text) {
                                   lines += std::to_string(level) + ":" + std::string(text);
                                 },
                             .metric = {},
                             .progress = {}});
  const retort_call* c = call.Begin();
  c->log(c->ctx, RETORT_LOG_WARNING, ToStr("careful"));
  c->progress(c->ctx, 0.5, ToStr("half"));
  EXPECT_EQ(lines, "2:careful");
}

}  // namespace
}  // namespace retort
