// The scheduler without a model: blocks, order and fairness by counting.
// SPDX-License-Identifier: Apache-2.0
#include "core/generate/scheduler.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/generate/kv_budget.h"

namespace retort::generate {
namespace {

using engine::GenerateRequest;
using Act = Scheduler::Act;
using testing::HasSubstr;

GenerateRequest Request(int64_t prompt, int32_t max_tokens, int32_t n_samples = 1) {
  GenerateRequest request;
  request.ids.assign(static_cast<size_t>(prompt), 1);
  request.n_samples = n_samples;
  request.sampling.max_tokens = max_tokens;
  return request;
}

// Plays a run: every sample writes `length` tokens (at most its max_tokens), one a decode step.
class Simulation {
 public:
  Simulation(const std::vector<GenerateRequest>& requests, const SchedulerLimits& limits,
             int64_t blocks)
      : requests_(requests),
        limits_(limits),
        blocks_(blocks),
        scheduler_(requests, limits, blocks_, 100) {}

  struct Event {
    Act act;
    size_t request;
    int32_t index;
    int64_t decode_steps;  // before it
    std::string why;
  };

  void Run(const std::function<int32_t(size_t request, int32_t index)>& length) {
    int64_t between = 0;  // prompt tokens since the last decode step
    for (;;) {
      const Scheduler::Action a = scheduler_.Next();
      if (a.act == Act::kDone) break;
      if (a.act != Act::kDecode) {
        const auto request = static_cast<size_t>(a.item.request - requests_.data());
        events.push_back({a.act, request, a.item.index, decode_steps, a.why});
        if (a.act == Act::kPrefill) {
          EXPECT_EQ(a.begin % limits_.prefill_chunk, 0);
          if (!live_.empty() && between > 0) {
            EXPECT_LE(between + a.rows, limits_.prefill_chunk);
          }
          between += a.rows;
          prefilled += a.rows;
          EXPECT_EQ(static_cast<int64_t>(scheduler_.prompt_blocks().size()),
                    KvBlocksOf(a.begin + a.rows));
        }
        if (a.act == Act::kStart) Start(a, length(request, a.item.index));
        continue;
      }
      between = 0;
      ++decode_steps;
      Decode();
    }
    EXPECT_TRUE(live_.empty());
    EXPECT_EQ(blocks_.used(), 0);
    EXPECT_EQ(blocks_.available(), blocks_.total());
  }

  std::vector<Event> Of(Act act) const {
    std::vector<Event> some;
    for (const Event& e : events) {
      if (e.act == act) some.push_back(e);
    }
    return some;
  }

  std::vector<Event> events;
  int64_t decode_steps = 0, prefilled = 0, copies = 0, live_peak = 0;
  KvBlocks& blocks() { return blocks_; }

 private:
  struct Live {
    int64_t positions = 0, prompt = 0;
    int32_t left = 0;
  };

  void Start(const Scheduler::Action& a, int32_t length) {
    EXPECT_FALSE(live_.contains(a.slot));
    copies += a.copy_from >= 0;
    const auto prompt = static_cast<int64_t>(a.item.request->ids.size());
    const int32_t most = a.item.request->sampling.max_tokens;
    live_[a.slot] = {prompt, prompt,
                     std::min(length, most) - 1};  // the first comes with the prompt
    live_peak = std::max(live_peak, static_cast<int64_t>(live_.size()));
    EXPECT_LE(live_peak, limits_.slots);
    CheckWriters();
    if (live_[a.slot].left == 0) End(a.slot);
  }

  void End(int32_t slot) {
    live_.erase(slot);
    scheduler_.End(slot);
  }

  void Decode() {
    std::vector<int32_t> over;
    for (auto& [slot, live] : live_) {
      ++live.positions;
      const auto table = scheduler_.Cover(slot, live.positions);
      EXPECT_EQ(static_cast<int64_t>(table.size()), KvBlocksOf(live.positions));
      if (--live.left == 0) over.push_back(slot);
    }
    CheckWriters();
    for (int32_t slot : over) End(slot);
  }

  // No block that a sample writes into stands in another's table (but for whole prompt blocks).
  void CheckWriters() {
    std::set<int32_t> written;
    for (const auto& [slot, live] : live_) {
      const auto table = scheduler_.Cover(slot, live.positions);
      for (size_t b = static_cast<size_t>(live.prompt / kKvBlock); b < table.size(); ++b) {
        EXPECT_TRUE(written.insert(table[b]).second);
      }
    }
  }

  const std::vector<GenerateRequest>& requests_;
  const SchedulerLimits limits_;
  KvBlocks blocks_;
  Scheduler scheduler_;
  std::map<int32_t, Live> live_;
};

int64_t Longest(const std::vector<GenerateRequest>& requests) { return LongestRequest(requests); }

TEST(Scheduler, RandomLoadsRunToTheEndInOrderWithinTheirBlocks) {
  std::mt19937 rng(7);
  const auto upto = [&](int n) { return std::uniform_int_distribution<int>(1, n)(rng); };
  int64_t bound_met = 0;
  for (int round = 0; round < 300; ++round) {
    std::vector<GenerateRequest> requests;
    for (int i = upto(12); i > 0; --i) requests.push_back(Request(upto(400), upto(200), upto(6)));
    const SchedulerLimits limits = {
        .slots = upto(9), .context = Longest(requests), .prefill_chunk = upto(150)};
    const int64_t most = MostBlocks(requests, limits.slots, limits.context);
    // Sometimes all that can be used, sometimes just enough for the largest.
    const int64_t least = KvBlocksOf(limits.context - 1);
    const int64_t blocks = round % 3 == 0 ? most : least + (round % 3 == 1 ? 0 : upto(10));
    Simulation run(requests, limits, blocks);
    run.Run([&](size_t, int32_t) { return upto(200); });
    const auto started = run.Of(Act::kStart);
    size_t at = 0;
    int64_t prompts = 0;
    for (size_t r = 0; r < requests.size(); ++r) {
      prompts += static_cast<int64_t>(requests[r].ids.size());
      for (int32_t i = 0; i < requests[r].n_samples; ++i, ++at) {
        ASSERT_LT(at, started.size());
        EXPECT_EQ(started[at].request, r);
        EXPECT_EQ(started[at].index, i);
      }
    }
    EXPECT_EQ(at, started.size());
    EXPECT_EQ(run.prefilled, prompts);  // each prompt once
    EXPECT_LE(run.blocks().peak(), blocks);
    bound_met += run.blocks().peak() == blocks;
  }
  EXPECT_GT(bound_met, 20);
}

// With the default pool no free slot waits for blocks.
TEST(Scheduler, ThePoolOfTheBudgetKeepsAllSlotsBusy) {
  std::mt19937 rng(9);
  const auto upto = [&](int n) { return std::uniform_int_distribution<int>(1, n)(rng); };
  for (int round = 0; round < 100; ++round) {
    std::vector<GenerateRequest> requests;
    for (int i = 0; i < 12; ++i) requests.push_back(Request(upto(300), 100, upto(3)));
    engine::GenerateOptions options;
    options.max_batch = upto(6);
    const KvBudget budget = MakeKvBudget(requests, options, 100).value();
    Simulation run(requests,
                   {.slots = budget.slots, .context = budget.context, .prefill_chunk = 1000},
                   budget.blocks);
    run.Run([&](size_t, int32_t) { return 100; });
    const int64_t samples = CountSamples(requests);
    // All of one length and no prefill that takes more than a step: waves of full slots.
    EXPECT_LE(run.decode_steps, 99 * ((samples + budget.slots - 1) / budget.slots) + 3 * samples);
  }
}

TEST(Scheduler, SamplesOfAPromptShareItsFullBlocksAndCopyTheLast) {
  const std::vector<GenerateRequest> requests = {Request(200, 40, 8)};
  // 3 full blocks and one of 8 positions; each sample writes into one own block.
  EXPECT_EQ(MostBlocks(requests, 8, 240), 3 + 8);
  Simulation run(requests, {.slots = 8, .context = 240, .prefill_chunk = 512}, 11);
  run.Run([](size_t, int32_t) { return 40; });
  EXPECT_EQ(run.live_peak, 8);
  EXPECT_EQ(run.copies, 7);
  EXPECT_EQ(run.blocks().peak(), 11);
  EXPECT_EQ(run.prefilled, 200);
  // One after the other: nothing to copy, and nothing above what one needs.
  Simulation alone(requests, {.slots = 1, .context = 240, .prefill_chunk = 512}, 4);
  alone.Run([](size_t, int32_t) { return 40; });
  EXPECT_EQ(alone.copies, 0);
  EXPECT_EQ(alone.prefilled, 200);
  EXPECT_EQ(alone.blocks().peak(), 4);
}

TEST(Scheduler, APromptOfWholeBlocksCopiesNothing) {
  const std::vector<GenerateRequest> requests = {Request(128, 64, 4)};
  Simulation run(requests, {.slots = 4, .context = 192, .prefill_chunk = 512},
                 MostBlocks(requests, 4, 192));
  run.Run([](size_t, int32_t) { return 64; });
  EXPECT_EQ(run.copies, 0);
  EXPECT_EQ(run.live_peak, 4);
  EXPECT_EQ(run.blocks().peak(), 2 + 4);
}

TEST(Scheduler, ALongPromptDoesNotStallWhatIsDecoded) {
  const std::vector<GenerateRequest> requests = {Request(10, 500), Request(1000, 5)};
  Simulation run(requests, {.slots = 2, .context = 1005, .prefill_chunk = 64}, 100);
  run.Run([](size_t, int32_t) { return 500; });
  const auto prefills = run.Of(Act::kPrefill);
  ASSERT_EQ(prefills.size(), 1u + 16u);
  for (size_t i = 2; i < prefills.size(); ++i) {  // a decode step between two chunks
    EXPECT_EQ(prefills[i].decode_steps, prefills[i - 1].decode_steps + 1);
  }
  // The first prompt used some of the first budget; then the second is not put off either.
  EXPECT_EQ(run.Of(Act::kStart)[1].decode_steps, 16);
}

TEST(Scheduler, ShortPromptsShareTheBudgetBetweenTwoSteps) {
  const std::vector<GenerateRequest> requests(20, Request(30, 50));
  Simulation run(requests, {.slots = 20, .context = 80, .prefill_chunk = 100}, 100);
  run.Run([](size_t, int32_t) { return 50; });
  const auto started = run.Of(Act::kStart);
  for (size_t i = 0; i < started.size(); ++i) {
    EXPECT_EQ(started[i].decode_steps, static_cast<int64_t>(i / 3)) << i;  // 3 x 30 of 100 tokens
  }
}

// Short requests come after a long one that has to wait for memory: they wait with it.
TEST(Scheduler, NothingOvertakesTheRequestAtTheFront) {
  std::vector<GenerateRequest> requests = {Request(64, 64), Request(64, 64), Request(64, 448)};
  for (int i = 0; i < 20; ++i) requests.push_back(Request(10, 10));
  Simulation run(requests, {.slots = 4, .context = 512, .prefill_chunk = 512}, 8);
  run.Run([](size_t, int32_t) { return 1000; });
  const auto started = run.Of(Act::kStart);
  ASSERT_EQ(started.size(), requests.size());
  for (size_t i = 0; i < started.size(); ++i) EXPECT_EQ(started[i].request, i);
  EXPECT_EQ(started[2].decode_steps, 63);  // when the first two are over
}

TEST(Scheduler, WhatCanNeverFitIsRefusedWithTheNumbersAndOthersGoOn) {
  std::vector<GenerateRequest> requests = {Request(100, 29), Request(100, 93), Request(100, 94, 2),
                                           Request(5, 1), Request(300, 50)};
  Simulation run(requests, {.slots = 2, .context = 340, .prefill_chunk = 512}, 3);
  run.Run([](size_t, int32_t) { return 1000; });
  const auto refused = run.Of(Act::kRefuse);
  ASSERT_EQ(refused.size(), 3u);
  EXPECT_THAT(refused[0].why, HasSubstr("100 tokens"));
  EXPECT_THAT(refused[0].why, HasSubstr("need 4 blocks of 64 tokens x 100 bytes"));
  EXPECT_THAT(refused[0].why, HasSubstr("room for 3"));
  EXPECT_EQ(refused[1].index, 1);
  EXPECT_THAT(refused[2].why, HasSubstr("need 350 positions, max_context is 340"));
  EXPECT_EQ(run.Of(Act::kStart).size(), 3u);
}

TEST(Scheduler, ACancelledRequestGivesItsBlocksBack) {
  engine::Cancel cancel = 0;
  std::vector<GenerateRequest> requests = {Request(300, 20, 3), Request(10, 5)};
  requests[0].cancel = &cancel;
  KvBlocks blocks(20);
  Scheduler scheduler(requests, {.slots = 2, .context = 320, .prefill_chunk = 100}, blocks, 1);
  EXPECT_EQ(scheduler.Next().act, Act::kPrefill);
  EXPECT_EQ(blocks.used(), 2);
  cancel = 1;
  for (int32_t i = 0; i < 3; ++i) {
    const Scheduler::Action dropped = scheduler.Next();
    EXPECT_EQ(dropped.act, Act::kDrop);
    EXPECT_EQ(dropped.item.index, i);
  }
  EXPECT_EQ(blocks.used(), 0);
  EXPECT_EQ(blocks.available(), 20);
  EXPECT_EQ(scheduler.Next().act, Act::kPrefill);
  const Scheduler::Action start = scheduler.Next();
  EXPECT_EQ(start.act, Act::kStart);
  EXPECT_EQ(start.item.request, &requests[1]);
}

TEST(KvBudget, IsWhatTheRequestsNeedAndNoMore) {
  std::vector<GenerateRequest> requests = {Request(10, 55), Request(64, 66, 5), Request(1, 1)};
  engine::GenerateOptions options;
  options.max_batch = 16;
  const auto blocks = [&] { return MakeKvBudget(requests, options, 10).value().blocks; };
  EXPECT_EQ(blocks(), 1 + (1 + 5 * 2) + 1);  // 64 positions; 1 full and 5 x 2 of 129; 1
  options.max_batch = 2;
  EXPECT_EQ(blocks(), 1 + 2 * 2);
  EXPECT_EQ(MakeKvBudget(requests, options, 10).value().slots, 2);
  options.kv_memory = 39;
  EXPECT_EQ(blocks(), 3);
  options.kv_memory = 1 << 20;
  EXPECT_EQ(blocks(), 5);
  options.max_context = 70;  // the second is too long for it
  EXPECT_EQ(blocks(), 2);
}

TEST(KvBudget, MemoryForLessThanABlockIsRefused) {
  const std::vector<GenerateRequest> requests = {Request(10, 55)};
  engine::GenerateOptions options;
  options.kv_memory = 4095;
  const auto budget = MakeKvBudget(requests, options, 4096);
  ASSERT_FALSE(budget.ok());
  EXPECT_EQ(budget.status().code(), Code::kInvalidArgument);
  EXPECT_THAT(budget.status().message(), HasSubstr("kv_memory 4095"));
  EXPECT_THAT(budget.status().message(), HasSubstr("4096 bytes"));
}

}  // namespace
}  // namespace retort::generate
