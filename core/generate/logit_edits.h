// What a request does to a row of logits before temperature and filters, in the order of
// transformers: bias, repetition penalty, presence and frequency penalty (which transformers lacks:
// OpenAI's definition), forbidden stop ids. Remembers what it overwrote, because a token's
// log-probability is that of the untouched row.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/engine/engine.h"
#include "core/generate/token_counts.h"

namespace retort::generate {

// True if the row depends on the ids of the sample so far.
bool HasPenalties(const engine::SamplingParams& params);

class LogitEdits {
 public:
  void Reserve(size_t n) { before_.reserve(n); }
  // `counts`: of the row's sample; not read without penalties. `banned` become -inf.
  void Apply(std::span<float> logits, const engine::SamplingParams& params,
             std::span<const TokenCounts::Entry> counts, std::span<const int32_t> banned);
  bool empty() const { return before_.empty(); }
  // Of the row as it was.
  float Before(std::span<const float> logits, int32_t id) const;

 private:
  struct Old {
    int32_t id = 0;
    float logit = 0;
  };
  void Set(std::span<float> logits, int32_t id, float value);

  std::vector<Old> before_;  // in the order of the edits: an id's first entry is the original
};

}  // namespace retort::generate
