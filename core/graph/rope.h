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
  // Positions at or beyond it need frequencies that depend on the text's length ("dynamic"),
  // which cached keys can't follow: the engine refuses them. 0: no such limit.
  int64_t position_limit = 0;
};

// Types "default", "linear", "dynamic", "llama3", "yarn"; another one, or a missing or senseless
// number, is refused with the key's name.
Result<RopeTable> MakeRopeTable(const RopeSpec& spec);

}  // namespace retort::graph
