// Callbacks of the host that throw while a plugin runs them (out of memory): the plugin goes on as
// if nothing had happened, and its call fails. The plugins here are noexcept, as C is: anything
// that got through would end the process. SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <new>
#include <thread>
#include <vector>

#include "tests/unit/plugin/table_fixture.h"

namespace retort::host {
namespace {

using testing::HasSubstr;

[[noreturn]] void RunOut() { throw std::bad_alloc(); }

// A call whose callbacks all throw, but for error.
struct ThrowingCall {
  retort_call raw{};
  std::string text;
  ThrowingCall() {
    raw.struct_size = sizeof(raw);
    raw.ctx = this;
    raw.device_type = RETORT_DEVICE_CPU;
    raw.error = [](void* ctx, retort_status, retort_str message) {
      static_cast<ThrowingCall*>(ctx)->text = ToView(message);
    };
    raw.log = [](void*, int32_t, retort_str) { RunOut(); };
    raw.metric = [](void*, retort_str, double, double) { RunOut(); };
    raw.progress = [](void*, double, retort_str) { RunOut(); };
    raw.scratch = [](void*, uint64_t, uint64_t) -> void* { RunOut(); };
  }
};

// A reward that runs the_score.
std::function<void(const retort_call*, const retort_reward_args*)> the_score;
double the_value = 1;  // every sample's score
retort_status Score(retort_instance*, const retort_call* call,
                    const retort_reward_args* args) noexcept {
  the_score(call, args);
  for (uint64_t i = 0; i < args->n; ++i) {
    args->score[i] = the_value;
    args->status[i] = RETORT_SCORE_OK;
  }
  return RETORT_OK;
}

// What the score of one sample gives, and the text.
std::pair<retort_status, std::string> RunScore(
    std::function<void(const retort_call*, const retort_reward_args*)> score,
    void (*info)(void*, uint64_t, retort_str) = nullptr) {
  the_score = std::move(score);
  retort_reward_v1 table{};
  table.struct_size = sizeof(table);
  table.score = Score;
  const auto reward = WrapOne(RETORT_REWARD_INTERFACE, &table, "reward").value();
  const retort_sample sample{};
  double value = 0;
  uint8_t status = 2;
  const retort_reward_args args = {.struct_size = sizeof(args),
                                   .sample_stride = sizeof(sample),
                                   .samples = &sample,
                                   .n = 1,
                                   .score = &value,
                                   .status = &status,
                                   .info_ctx = nullptr,
                                   .info = info};
  ThrowingCall call;
  const retort_status result = reward->out.reward.score(reward->handle(), &call.raw, &args);
  return {result, call.text};
}

TEST(CheckedCallbacks, OfTheCall) {
  const std::vector<std::function<void(const retort_call*)>> uses = {
      [](const retort_call* c) {
        c->metric(c->ctx, {"a", 1}, 1, 1);
      },
      [](const retort_call* c) {
        c->progress(c->ctx, 0.5, {"a", 1});
      },
      [](const retort_call* c) { EXPECT_EQ(c->scratch(c->ctx, 64, 64), nullptr); },
  };
  for (const auto& use : uses) {
    const auto [status, text] = RunScore([&](const retort_call* c, const auto*) { use(c); });
    EXPECT_EQ(status, RETORT_RESOURCE_EXHAUSTED);
    EXPECT_EQ(text, "out of memory");
  }
}

TEST(CheckedCallbacks, LogFromAnyThread) {
  const auto [status, text] = RunScore([](const retort_call* c, const auto*) {
    std::thread([c] { c->log(c->ctx, RETORT_LOG_INFO, {"a", 1}); }).join();
  });
  EXPECT_EQ(status, RETORT_RESOURCE_EXHAUSTED);
  EXPECT_THAT(text, HasSubstr("log"));
}

TEST(CheckedCallbacks, OtherCallbackFromAnotherThreadFailsTheCall) {
  const auto [status, text] = RunScore(
      [](const retort_call*, const retort_reward_args* args) {
        std::thread([args] { args->info(args->info_ctx, 0, {"{}", 2}); }).join();
      },
      [](void*, uint64_t, retort_str) { FAIL() << "reached the host from a foreign thread"; });
  EXPECT_EQ(status, RETORT_INTERNAL);
  EXPECT_THAT(text, HasSubstr("another thread"));
}

TEST(CheckedCallbacks, Info) {
  int calls = 0;
  const auto [status, text] = RunScore(
      [&](const retort_call*, const retort_reward_args* args) {
        args->info(args->info_ctx, 0, {"{}", 2});
        args->info(args->info_ctx, 0, {"{}", 2});
        ++calls;
      },
      [](void*, uint64_t, retort_str) { RunOut(); });
  EXPECT_EQ(status, RETORT_RESOURCE_EXHAUSTED);
  EXPECT_EQ(calls, 1);
}

TEST(CheckedCallbacks, InfoThatTheWrapperItselfGives) {
  the_value = std::numeric_limits<double>::infinity();
  const auto [status, text] = RunScore([](const retort_call*, const retort_reward_args*) {},
                                       [](void*, uint64_t, retort_str) { RunOut(); });
  the_value = 1;
  EXPECT_EQ(status, RETORT_RESOURCE_EXHAUSTED);
}

TEST(CheckedCallbacks, SinkAndReader) {
  retort_optimizer_v1 table{};
  table.struct_size = sizeof(table);
  table.spec = [](retort_instance*, const retort_call*, const retort_param_info*,
                  const retort_optimizer_spec**) { return retort_status{RETORT_OK}; };
  table.step = [](retort_instance*, const retort_call*, const retort_optimizer_args*) {
    return retort_status{RETORT_OK};
  };
  table.save = [](retort_instance*, const retort_call*, const retort_sink* sink) noexcept {
    EXPECT_EQ(sink->write(sink->ctx, "a", 1), -1);
    return retort_status{RETORT_OK};
  };
  table.load = [](retort_instance*, const retort_call*, const retort_reader* reader) noexcept {
    char byte = 0;
    EXPECT_EQ(reader->read(reader->ctx, &byte, 1), -1);
    return retort_status{RETORT_OK};
  };
  const auto optimizer = WrapOne(RETORT_OPTIMIZER_INTERFACE, &table, "optimizer").value();
  ThrowingCall call;
  const retort_sink sink = {nullptr, [](void*, const void*, uint64_t) -> int64_t { RunOut(); }};
  EXPECT_EQ(optimizer->out.optimizer.save(optimizer->handle(), &call.raw, &sink),
            RETORT_RESOURCE_EXHAUSTED);
  const retort_reader reader = {nullptr, [](void*, void*, uint64_t) -> int64_t { RunOut(); }};
  EXPECT_EQ(optimizer->out.optimizer.load(optimizer->handle(), &call.raw, &reader),
            RETORT_RESOURCE_EXHAUSTED);
}

TEST(CheckedCallbacks, BuilderOfAFamily) {
  retort_family_v1 table{};
  table.struct_size = sizeof(table);
  table.match = [](retort_instance*, const retort_call*, retort_str, int32_t*) {
    return retort_status{RETORT_OK};
  };
  table.build = [](retort_instance*, const retort_call*, retort_str,
                   const retort_builder_v1* b) noexcept {
    EXPECT_EQ(b->scale(b->ctx, {7}, 2).id, 8U);
    EXPECT_EQ(b->add(b->ctx, {1}, {2}).id, 0U);  // throws
    EXPECT_EQ(b->scale(b->ctx, {7}, 2).id, 0U);  // the build has failed already
    b->block(b->ctx, 0);
    return retort_status{RETORT_OK};
  };
  const auto family = WrapOne(RETORT_FAMILY_INTERFACE, &table, "family").value();
  int n_calls = 0;
  retort_builder_v1 builder{};
  builder.struct_size = sizeof(builder);
  builder.ctx = &n_calls;
  builder.scale = [](void* ctx, retort_value x, double) {
    ++*static_cast<int*>(ctx);
    return retort_value{x.id + 1};
  };
  builder.add = [](void*, retort_value, retort_value) -> retort_value { RunOut(); };
  builder.block = [](void* ctx, uint32_t) { *static_cast<int*>(ctx) += 100; };
  ThrowingCall call;
  EXPECT_EQ(family->out.family.build(family->handle(), &call.raw, {"{}", 2}, &builder),
            RETORT_RESOURCE_EXHAUSTED);
  EXPECT_EQ(call.text, "out of memory");
  EXPECT_EQ(n_calls, 1);
}

}  // namespace
}  // namespace retort::host
