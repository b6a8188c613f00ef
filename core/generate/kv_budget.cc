// SPDX-License-Identifier: Apache-2.0
#include "core/generate/kv_budget.h"

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "core/generate/kv_blocks.h"
#include "core/generate/request_queue.h"

namespace retort::generate {
namespace {

struct Share {
  int64_t blocks = 0, times = 0;
};

// Of the `n` largest, each as often as it is there.
int64_t SumOfLargest(std::vector<Share>& shares, int64_t n) {
  std::sort(shares.begin(), shares.end(),
            [](const Share& a, const Share& b) { return a.blocks > b.blocks; });
  int64_t sum = 0;
  for (const Share& share : shares) {
    const int64_t times = std::min(share.times, n);
    sum += times * share.blocks;
    n -= times;
  }
  return sum;
}

}  // namespace

int64_t MostBlocks(std::span<const engine::GenerateRequest> requests, int64_t slots,
                   int64_t context, std::span<const int64_t> stale_lengths) {
  std::vector<Share> prompts, samples;  // full blocks of a prompt; the others of a sample
  for (const engine::GenerateRequest& r : requests) {
    if (TokensNeeded(r) > context) continue;
    const bool shares = !OutgrowsKeys(r, stale_lengths);
    const auto prompt = static_cast<int64_t>(r.ids.size() + r.prefix.size());
    const int64_t full = shares ? prompt / kKvBlock : 0;
    prompts.push_back({.blocks = full, .times = 1});
    samples.push_back({.blocks = KvBlocksOf(PositionsKept(r)) - full, .times = r.n_samples});
  }
  return SumOfLargest(prompts, slots) + SumOfLargest(samples, slots);
}

Result<KvBudget> MakeKvBudget(std::span<const engine::GenerateRequest> requests,
                              const engine::GenerateOptions& options, int64_t block_bytes,
                              std::span<const int64_t> stale_lengths) {
  KvBudget budget;
  budget.slots = std::min<int64_t>(options.max_batch, CountSamples(requests));
  budget.context = LongestRequest(requests);
  if (options.max_context > 0) budget.context = std::min(budget.context, options.max_context);
  budget.blocks = MostBlocks(requests, budget.slots, budget.context, stale_lengths);
  if (options.kv_memory > 0 && block_bytes > 0) {
    const int64_t room = options.kv_memory / block_bytes;
    if (room == 0) {
      return InvalidArgument("kv_memory " + std::to_string(options.kv_memory) +
                             " has no room for one block of " + std::to_string(kKvBlock) +
                             " tokens, " + std::to_string(block_bytes) +
                             " bytes with this model; raise it or choose a smaller kv_dtype");
    }
    budget.blocks = std::min(budget.blocks, room);
  }
  if (budget.blocks > std::numeric_limits<int32_t>::max()) {
    return ResourceExhausted("KV cache: " + std::to_string(budget.slots) + " samples x " +
                             std::to_string(budget.context) +
                             " tokens are more than any machine has room for; lower max_batch, "
                             "max_tokens or max_context, or set kv_memory");
  }
  return budget;
}

}  // namespace retort::generate
