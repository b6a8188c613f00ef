// What a chain's caller knows and plugins need during a call: cancel, step, randomness, threads,
// a tokenizer for samples without ids, and where log lines and metrics go.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "core/base/plugin_call.h"
#include "core/engine/engine.h"
#include "core/text/tokenizer.h"
#include "retort/abi/types.h"

namespace retort::host {

struct ChainCall {
  const engine::Cancel* cancel = nullptr;
  int64_t step = -1;      // of the stage; -1: none
  retort_key key{};       // of (seed, stage, step); each entry gets its own, derived from it
  int32_t n_threads = 1;  // that one plugin call may use
  const text::Tokenizer* tokenizer = nullptr;  // the stage's; encodes for plugins that need ids
  std::function<void(int32_t level, std::string_view message)> log;             // may be empty
  std::function<void(std::string_view name, double sum, double count)> metric;  // may be empty
  std::function<void(int64_t samples)>
      on_progress;  // samples through the chain so far, in this call
};

inline bool IsCancelled(const ChainCall& call) {
  return call.cancel != nullptr && call.cancel->load(std::memory_order_relaxed) != 0;
}

inline PluginCallSinks SinksOf(const ChainCall& call) {
  PluginCallSinks sinks;
  sinks.log = call.log;
  sinks.metric = call.metric;
  return sinks;
}

// What happens to a sample that an entry failed to measure: kSkip leaves it unmeasured and goes
// on (until the fuse), kFail ends the stage with the first one.
enum class OnError : uint8_t { kSkip, kFail };

}  // namespace retort::host
