// A chain of filter plugins over samples: keep, drop or rewrite, each drop with its reason in the
// audit. An entry's `rewards` are scored by the host and handed over (no plugin calls a plugin).
// A rewritten sample loses ids and logp and enters the chain after the filter that rewrote it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/data/sample.h"
#include "core/json/json.h"
#include "host/chain/chain_call.h"
#include "host/chain/fuse.h"
#include "host/chain/reward_chain.h"
#include "host/plugin/registry.h"
#include "host/session/session.h"
#include "retort/abi/filter.h"

namespace retort::host {

// A sample that left the chain: dropped by a judgement, or unmeasured (`error`).
struct AuditEntry {
  size_t input = 0;  // which of the samples given to Run
  uint64_t uid = 0;
  std::string plugin, reason;
  bool error = false;
  std::string ToJson() const;  // {"uid","plugin","reason"}, and "error":true for the latter
};

// Per entry, over the chain's life.
struct FilterCounts {
  std::string name;
  uint64_t n_in = 0, n_kept = 0, n_dropped = 0, n_rewritten = 0, n_errors = 0;
};

struct FilterOutcome {
  std::vector<data::Sample> kept;  // in the order given
  std::vector<size_t> input;       // which of the samples given each was
  std::vector<uint8_t> rewritten;  // 1: its texts are not the ones given
  std::vector<AuditEntry> audit;   // by entry, then in the order given
};

class FilterChain {
 public:
  // `entries`: as of RewardChain, without "weight" and with "rewards" (a reward chain).
  static Result<FilterChain> Create(Session& session, const json::Value& entries, retort_key key,
                                    std::string_view what = "filters");
  FilterChain() = default;  // empty: keeps everything
  FilterChain(FilterChain&&) noexcept = default;
  FilterChain& operator=(FilterChain&&) noexcept = default;

  bool empty() const { return entries_.empty(); }
  bool needs_ids() const;
  // True: Run may be called once per chunk of whole groups, with the same result as in one call.
  // False: some entry observes all samples before it judges the first one.
  bool streams() const;

  // Passes samples (groups adjacent) through all entries. Errors as of RewardChain::Score.
  Result<FilterOutcome> Run(std::vector<data::Sample> samples, const ChainCall& call);
  Status Finish() const;  // the fuses once more, at the end of a stage
  std::vector<FilterCounts> counts() const;
  std::vector<RewardCounts> reward_counts() const;  // of all entries' "rewards"

  struct Entry {
    std::string name;
    OnError on_error = OnError::kSkip;
    Fuse fuse;
    PluginInstance instance;
    const retort_filter_v1* table = nullptr;
    RewardChain rewards;
    FilterCounts counts;
  };

 private:
  struct Pass;  // the samples on their way through the entries
  Status RunEntry(Entry& entry, size_t index, const ChainCall& call, Pass& pass,
                  FilterOutcome& outcome);

  std::vector<Entry> entries_;
};

}  // namespace retort::host
