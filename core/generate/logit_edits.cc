// SPDX-License-Identifier: Apache-2.0
#include "core/generate/logit_edits.h"

#include <limits>

namespace retort::generate {

bool HasPenalties(const engine::SamplingParams& params) {
  return params.repetition_penalty != 1 || params.presence_penalty != 0 ||
         params.frequency_penalty != 0;
}

void LogitEdits::Set(std::span<float> logits, int32_t id, float value) {
  float& logit = logits[static_cast<size_t>(id)];
  before_.push_back({id, logit});
  logit = value;
}

void LogitEdits::Apply(std::span<float> logits, const engine::SamplingParams& params,
                       std::span<const TokenCounts::Entry> counts,
                       std::span<const int32_t> banned) {
  before_.clear();
  const auto now = [&](int32_t id) { return logits[static_cast<size_t>(id)]; };
  for (const auto& [id, bias] : params.logit_bias) Set(logits, id, now(id) + bias);
  if (HasPenalties(params)) {
    const auto repetition = static_cast<float>(params.repetition_penalty);
    for (const TokenCounts::Entry& seen : counts) {
      float z = now(seen.id);
      z = z < 0 ? z * repetition : z / repetition;
      if (seen.written > 0) {
        z -= static_cast<float>(params.frequency_penalty * seen.written + params.presence_penalty);
      }
      Set(logits, seen.id, z);
    }
  }
  for (int32_t id : banned) Set(logits, id, -std::numeric_limits<float>::infinity());
}

float LogitEdits::Before(std::span<const float> logits, int32_t id) const {
  for (const Old& old : before_) {
    if (old.id == id) return old.logit;
  }
  return logits[static_cast<size_t>(id)];
}

}  // namespace retort::generate
