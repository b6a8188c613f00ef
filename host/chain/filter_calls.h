// One filter entry over the samples that reach it: its observe passes, then its judgements with
// the decisions' texts copied. What the decisions do to the samples is the chain's business.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "host/chain/chain_call.h"
#include "host/chain/reward_chain.h"
#include "host/chain/sample_views.h"
#include "retort/abi/filter.h"

namespace retort::host {

// What a plugin decided about a sample.
struct Decision {
  uint32_t action = RETORT_KEEP;
  std::string reason;
  std::optional<std::string> completion, record;
};

// The plugin and where it stands in its chain.
struct FilterPlugin {
  std::string name;
  retort_instance* instance = nullptr;
  const retort_filter_v1* table = nullptr;
  size_t index = 0;
};

// One decision per sample; undecided is KEEP. A failed judge call makes ERRORs of its samples, a
// failed observe ends the stage: a filter that missed samples would judge by a wrong state.
Result<std::vector<Decision>> CallFilter(const FilterPlugin& plugin, const SampleViews& views,
                                         const RewardChain& rewards, const RewardTable& table,
                                         const ChainCall& call);

}  // namespace retort::host
