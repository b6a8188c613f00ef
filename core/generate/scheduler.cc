// SPDX-License-Identifier: Apache-2.0
#include "core/generate/scheduler.h"

#include <algorithm>
#include <utility>

#include "core/base/status.h"

namespace retort::generate {
namespace {

bool Cancelled(const engine::GenerateRequest& request) {
  return request.cancel != nullptr && request.cancel->load() != 0;
}

std::string Describe(const engine::GenerateRequest& request) {
  return "prompt of " + std::to_string(request.ids.size()) + " tokens and max_tokens " +
         std::to_string(request.sampling.max_tokens) + " need ";
}

}  // namespace

Scheduler::Scheduler(std::span<const engine::GenerateRequest> requests,
                     const SchedulerLimits& limits, KvBlocks& blocks, int64_t block_bytes)
    : limits_(limits),
      blocks_(blocks),
      block_bytes_(block_bytes),
      queue_(requests),
      slots_(static_cast<size_t>(limits.slots)) {}

std::string Scheduler::WhyNever(const engine::GenerateRequest& request) const {
  if (const int64_t needed = TokensNeeded(request); needed > limits_.context) {
    return Describe(request) + std::to_string(needed) + " positions, max_context is " +
           std::to_string(limits_.context) +
           "; shorten the prompt, lower max_tokens or raise max_context";
  }
  const int64_t needed = KvBlocksOf(PositionsKept(request));
  if (needed <= blocks_.total()) return {};
  return Describe(request) + std::to_string(needed) + " blocks of " + std::to_string(kKvBlock) +
         " tokens x " + std::to_string(block_bytes_) + " bytes, kv_memory has room for " +
         std::to_string(blocks_.total()) +
         "; raise kv_memory, lower max_tokens, shorten the prompt or choose a smaller kv_dtype";
}

int32_t Scheduler::FreeSlot() const {
  const auto free = [](const Slot& slot) { return !slot.taken; };
  const auto slot = std::find_if(slots_.begin(), slots_.end(), free);
  return slot == slots_.end() ? -1 : static_cast<int32_t>(slot - slots_.begin());
}

// Leaves a prompt behind with its last sample.
void Scheduler::Pop() {
  const engine::GenerateRequest* request = queue_.front().request;
  queue_.Pop();
  if (prompt_.request != request || (!queue_.empty() && queue_.front().request == request)) return;
  if (prompt_.slot >= 0) slots_[static_cast<size_t>(prompt_.slot)].taken = false;
  prompt_ = {};
}

Scheduler::Action Scheduler::Skip(Act act, const RequestQueue::Item& item) {
  Action action = {.act = act, .item = item};
  if (act == Act::kRefuse) action.why = WhyNever(*item.request);
  Pop();
  return action;
}

Scheduler::Action Scheduler::Decode() {
  if (live_ == 0) throw Error(Internal("generation: nothing to decode, yet nothing fits"));
  prefilled_ = 0;
  return {.act = Act::kDecode};
}

bool Scheduler::BeginPrompt(const engine::GenerateRequest& request) {
  const int32_t slot = FreeSlot();
  const int64_t needed = KvBlocksOf(PositionsKept(request));
  if (slot < 0 || needed > blocks_.available()) return false;
  slots_[static_cast<size_t>(slot)].taken = true;
  prompt_ = {.request = &request,
             .tokens = static_cast<int64_t>(request.ids.size() + request.prefix.size()),
             .done = 0,
             .slot = slot,
             .table = BlockTable::Promise(blocks_, needed)};
  return true;
}

// The prompt is in the cache: its next sample begins, if there is room. The first one takes over
// what was promised with the prompt.
bool Scheduler::Start(const engine::GenerateRequest& request, Action* action) {
  const bool first = prompt_.slot >= 0;
  const int32_t slot = first ? prompt_.slot : FreeSlot();
  if (slot < 0) return false;
  const int64_t full = prompt_.tokens / kKvBlock, held = KvBlocksOf(prompt_.tokens);
  // The block that the prompt fills in part: for this sample to write on, unless another does.
  const bool copies =
      held > full && blocks_.holders(prompt_.table.blocks()[static_cast<size_t>(full)]) > 1;
  const int64_t shared = copies ? full : held;
  const int64_t needed = first ? 0 : KvBlocksOf(PositionsKept(request)) - shared;
  if (needed > blocks_.available()) return false;
  Slot& target = slots_[static_cast<size_t>(slot)];
  target.taken = true;
  target.table = BlockTable::Share(prompt_.table, shared, needed);
  if (first) prompt_.table.PassPromise(target.table);
  action->slot = slot;
  action->first = first;
  if (copies) {
    action->copy_from = prompt_.table.blocks()[static_cast<size_t>(full)];
    target.table.Cover(prompt_.tokens);
    action->copy_to = target.table.blocks().back();
  }
  prompt_.slot = -1;
  if (OutgrowsKeys(request, limits_.stale_lengths)) prompt_ = {};  // the next one prefills again
  ++live_;
  return true;
}

Scheduler::Action Scheduler::Next() {
  if (queue_.empty()) return live_ > 0 ? Decode() : Action{.act = Act::kDone};
  const RequestQueue::Item item = queue_.front();
  const engine::GenerateRequest& request = *item.request;
  if (Cancelled(request)) return Skip(Act::kDrop, item);
  if (prompt_.request != &request) {
    if (!WhyNever(request).empty()) return Skip(Act::kRefuse, item);
    if (!BeginPrompt(request)) return Decode();
  }
  if (prompt_.done < prompt_.tokens) {
    const int64_t rows = std::min(limits_.prefill_chunk, prompt_.tokens - prompt_.done);
    if (live_ > 0 && prefilled_ > 0 && prefilled_ + rows > limits_.prefill_chunk) return Decode();
    const Action action = {.act = Act::kPrefill,
                           .item = item,
                           .slot = prompt_.slot,
                           .begin = prompt_.done,
                           .rows = rows};
    prefilled_ += rows;
    prompt_.done += rows;
    prompt_.table.Cover(prompt_.done);
    return action;
  }
  Action action = {.act = Act::kStart, .item = item};
  if (!Start(request, &action)) return Decode();
  Pop();
  return action;
}

std::span<const int32_t> Scheduler::Cover(int32_t slot, int64_t positions) {
  BlockTable& table = slots_[static_cast<size_t>(slot)].table;
  table.Cover(positions);
  return table.blocks();
}

void Scheduler::End(int32_t slot) {
  slots_[static_cast<size_t>(slot)] = {};
  --live_;
}

bool Scheduler::DropNext(RequestQueue::Item* item) {
  if (queue_.empty()) return false;
  *item = queue_.front();
  Pop();
  return true;
}

}  // namespace retort::generate
