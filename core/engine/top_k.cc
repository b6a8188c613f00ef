// SPDX-License-Identifier: Apache-2.0
#include "core/engine/top_k.h"

#include <algorithm>
#include <cmath>

namespace retort::engine {
namespace {

// Whether a comes before b: the larger logit, the lower id.
bool IsBefore(const std::pair<float, int32_t>& a, const std::pair<float, int32_t>& b) {
  return a.first != b.first ? a.first > b.first : a.second < b.second;
}

}  // namespace

void TopK::Run(std::span<const float> z, double scale, double lse, int32_t* ids, float* logp,
               float* tail) {
  heap_.clear();
  for (size_t v = 0; v < z.size(); ++v) {
    const std::pair<float, int32_t> entry(z[v], static_cast<int32_t>(v));
    if (heap_.size() < static_cast<size_t>(k_)) {
      heap_.push_back(entry);
      std::push_heap(heap_.begin(), heap_.end(), IsBefore);
    } else if (z[v] > heap_.front().first) {  // an equal one has the higher id
      std::pop_heap(heap_.begin(), heap_.end(), IsBefore);
      heap_.back() = entry;
      std::push_heap(heap_.begin(), heap_.end(), IsBefore);
    }
  }
  std::sort_heap(heap_.begin(), heap_.end(), IsBefore);
  double mass = 0;
  for (size_t j = 0; j < static_cast<size_t>(k_); ++j) {
    const bool used = j < heap_.size();
    const double value = used ? scale * static_cast<double>(heap_[j].first) - lse : 0;
    ids[j] = used ? heap_[j].second : -1;
    logp[j] = static_cast<float>(value);
    if (used) mass += std::exp(value);
  }
  constexpr double kLeastTail = 1e-7;  // what rounding leaves of nothing
  *tail = static_cast<float>(std::log(std::max(1 - mass, kLeastTail)));
}

}  // namespace retort::engine
