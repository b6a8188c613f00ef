// The likeliest tokens of a row and the mass of the rest: what a teacher's cache keeps.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace retort::engine {

// Of logits z [V] at 1 / temperature `scale`, with lse = log sum exp(scale * z): the k largest in
// falling order (the lower id first among equals), their log-probabilities, and `tail`, the log of
// what is left. Of fewer than k columns the rest of ids is -1.
class TopK {
 public:
  explicit TopK(int32_t k) : k_(k) {}
  void Run(std::span<const float> z, double scale, double lse, int32_t* ids, float* logp,
           float* tail);

 private:
  int32_t k_;
  std::vector<std::pair<float, int32_t>> heap_;  // its top is the least of those kept
};

}  // namespace retort::engine
