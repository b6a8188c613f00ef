// A chain as written in a pipeline file or on a command line, read entry by entry.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/json/json.h"
#include "host/chain/chain_call.h"
#include "host/chain/model_reward.h"
#include "host/session/session.h"

namespace retort::host {

struct EntrySpec {
  std::string where;   // "rewards[0]", for errors
  std::string plugin;  // id without the kind
  std::string name;    // unique in the chain
  std::string config = "{}";
  double weight = 1;
  std::optional<size_t> gate;  // of a reward: the entry whose score must be positive
  OnError on_error = OnError::kSkip;
  double max_error_rate = 0.01;
  std::optional<bool> isolate;                   // unset: in a worker unless built in
  std::optional<int64_t> timeout_ms;             // of one call in a worker
  json::Value rewards;                           // absent: none
  std::optional<ModelRewardOptions> model = {};  // instead of a plugin: a model's value head
};

// `kind` is "reward" or "filter". Two entries of one plugin without names of their own are
// refused: their columns could not be told apart. So is a gate that is no reward of the chain, the
// reward itself, or behind it in a circle.
Result<std::vector<EntrySpec>> ReadEntries(const json::Value& entries, std::string_view kind,
                                           std::string_view what);

// The entry's plugin, in a worker or in this process as the entry says; errors begin with its
// place.
Result<PluginInstance> CreateEntryPlugin(Session& session, const EntrySpec& spec,
                                         std::string_view kind, retort_key key);

}  // namespace retort::host
