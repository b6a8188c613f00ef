// Pairs of answers of which one is preferred, for sequence losses of grain GROUP.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_PAIRS_H_
#define RETORT_SDK_PAIRS_H_

#include <cmath>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "retort/sdk/sequence_loss.h"

namespace retort::sdk {

// Calls fn(better, worse, share) for every two sequences of a group that have different targets.
// The shares of a group with such a pair sum to 1 / n_groups_global: the loss is a mean over groups
// of means over pairs. Sequences for which usable(s) is false have no part.
template <class T, class Usable, class Fn>
void ForEachPair(const SequenceBatch<T>& batch, Usable&& usable, Fn&& fn) {
  std::map<int32_t, std::vector<size_t>> groups;
  for (size_t s = 0; s < batch.n_sequences(); ++s) {
    if (usable(s)) groups[batch.group_id[s]].push_back(s);
  }
  std::vector<std::pair<size_t, size_t>> pairs;
  for (const auto& [id, members] : groups) {
    pairs.clear();
    for (const size_t better : members) {
      for (const size_t worse : members) {
        if (batch.target[better] > batch.target[worse]) pairs.emplace_back(better, worse);
      }
    }
    const double share = 1 / (static_cast<double>(pairs.size()) * batch.raw->n_groups_global);
    for (const auto& [better, worse] : pairs) fn(better, worse, share);
  }
}

// -log sigmoid(x) and its derivative, without overflow on either side.
inline double NegLogSigmoid(double x) {
  return std::fmax(-x, 0.0) + std::log1p(std::exp(-std::abs(x)));
}
inline double NegLogSigmoidSlope(double x) { return -1 / (1 + std::exp(x)); }

}  // namespace retort::sdk

#endif  // RETORT_SDK_PAIRS_H_
