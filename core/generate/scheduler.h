// What a run does next: which prompt to prefill, which sample to start, when to decode. Decides by
// counts alone (slots, blocks, tokens); the generator does the work.
// Method: first come, first served. The request at the front waits until a slot and enough blocks
// for all that its next sample may come to need are free, and nothing overtakes it: so long
// requests don't starve, and no sample that started is ever interrupted or moved. Between two
// decode steps at most `prefill_chunk` prompt tokens pass (one chunk at least), so a long prompt
// doesn't stall what is being decoded. A prompt's chunks begin at multiples of prefill_chunk
// whatever goes on beside it: its numbers don't depend on company. Its full blocks are shared by
// its samples, and the one that it fills in part goes to one of them at a time, copies to others;
// the scheduler holds the prompt's blocks until its last sample has started. Rejected: growing on
// demand with preemption (recomputing through other passes rounds otherwise, so tokens would depend
// on neighbours; swapping needs the memory that lacks). SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/engine/engine.h"
#include "core/generate/kv_blocks.h"
#include "core/generate/request_queue.h"

namespace retort::generate {

struct SchedulerLimits {
  int64_t slots = 1, context = 0, prefill_chunk = 512;
  // graph::StaleLengths: samples that may outgrow their keys get a prefill and blocks of their own,
  // because those are written anew.
  std::vector<int64_t> stale_lengths = {};
};

class Scheduler {
 public:
  enum class Act : uint8_t {
    kRefuse,   // report an error for the item: it can never fit
    kDrop,     // report the item as cancelled
    kPrefill,  // pass rows [begin, begin + rows) of the prompt in `slot`, with prompt_blocks()
    kStart,    // begin the item's sample in `slot`, after copying a block if copy_from >= 0
    kDecode,   // one step of all live slots
    kDone,
  };
  struct Action {
    Act act = Act::kDone;
    RequestQueue::Item item = {};
    int32_t slot = -1;
    int64_t begin = 0, rows = 0;
    int32_t copy_from = -1, copy_to = -1;
    bool first = false;    // kStart: nothing else started since the prefill in this slot
    std::string why = {};  // kRefuse
  };

  // `requests` and `blocks` outlive the object; block_bytes: for messages.
  Scheduler(std::span<const engine::GenerateRequest> requests, const SchedulerLimits& limits,
            KvBlocks& blocks, int64_t block_bytes);

  // The state moves on as if the action were done.
  Action Next();
  // The sample in the slot is over.
  void End(int32_t slot);
  // Every item that has not started, one after the other; false: there is none left.
  bool DropNext(RequestQueue::Item* item);

  std::span<const int32_t> prompt_blocks() const { return prompt_.table.blocks(); }
  // Of a slot's sample, covering so many positions from now on.
  std::span<const int32_t> Cover(int32_t slot, int64_t positions);
  int64_t live() const { return live_; }

 private:
  struct Prompt {
    const engine::GenerateRequest* request = nullptr;
    int64_t tokens = 0, done = 0;
    int32_t slot = -1;  // of the prefill; -1: its first sample has started
    BlockTable table;
  };
  struct Slot {
    bool taken = false;
    BlockTable table;
  };

  std::string WhyNever(const engine::GenerateRequest& request) const;
  bool BeginPrompt(const engine::GenerateRequest& request);
  bool Start(const engine::GenerateRequest& request, Action* action);
  Action Skip(Act act, const RequestQueue::Item& item);
  Action Decode();
  void Pop();
  int32_t FreeSlot() const;

  const SchedulerLimits limits_;
  KvBlocks& blocks_;
  const int64_t block_bytes_;
  RequestQueue queue_;
  Prompt prompt_;  // whose samples are being started
  std::vector<Slot> slots_;
  int64_t live_ = 0, prefilled_ = 0;  // prefilled_: tokens since the last decode step
};

}  // namespace retort::generate
