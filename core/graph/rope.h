// Rotary frequencies from a RopeSpec: the one place that knows the scaling rules of
// Hugging Face's "rope_scaling" / "rope_parameters" objects.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/status.h"
#include "core/graph/graph.h"

namespace retort::graph {

struct RopeTable {
  std::vector<double> inv_freq;  // [rotary_dim / 2], radians per position
  double attention_factor = 1;   // multiplies cos and sin
};

// What the length of a text (its last position + 1) has to do with its frequencies.
struct RopeLengths {
  int64_t limit = 0;  // texts longer than it have others than shorter ones; 0: all have the same
  // Of texts above the limit. true ("longrope"): one set for all, also of keys at low positions, so
  // that keys cached before a text outgrew the limit are stale. false ("dynamic"): a set per
  // length; what was cached stays, as in transformers.
  bool stale_above = false;
};

// The frequencies of a text of `length` positions (0: of a short one). Types "default", "linear",
// "dynamic", "llama3", "yarn", "longrope", "proportional"; another one, or a missing or senseless
// number, is refused with the key's name.
Result<RopeTable> MakeRopeTable(const RopeSpec& spec, int64_t length = 0);
Result<RopeLengths> RopeLengthsOf(const RopeSpec& spec);

// Lengths at which cached keys of the graph become stale, rising: a text that grows from one of
// them to one more must be prefilled anew, all of it.
std::vector<int64_t> StaleLengths(const Graph& graph);

}  // namespace retort::graph
