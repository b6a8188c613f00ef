// What a GGUF file says of a model, read off its graph (so that a family's defaults are known in
// one place, the family), and what can't be said there: refused by name.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/graph/graph.h"
#include "core/json/json.h"
#include "core/model/gguf_arch.h"

namespace retort::model {

struct GgufExpertFacts {
  int64_t count = 0, used = 0, width = 0, shared_width = 0;  // count 0: the MLP is dense
  bool norm_top_k = false;
};

struct GgufFacts {
  int64_t layers = 0, width = 0, vocab = 0, heads = 0, kv_heads = 0, head_dim = 0;
  int64_t mlp_width = 0, context = 0, rotary_dim = 0;
  double eps = 0, theta = 0, window_theta = 0;
  std::string scaling = {};  // rope_scaling as JSON, "" for none
  int64_t window = 0;        // 0: no layer has one
  std::vector<uint8_t> windowed = {};
  double attention_scale = 0;  // 0: 1 / sqrt(head_dim)
  double attention_cap = 0, logit_cap = 0;
  bool tied = false;
  GgufExpertFacts experts = {};
};

// `what` names the model in errors. UNIMPLEMENTED: the architecture has no place for something.
Result<GgufFacts> GgufFactsOf(const graph::Graph& graph, const GgufArch& arch,
                              const std::string& what);

}  // namespace retort::model
