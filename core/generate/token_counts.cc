// SPDX-License-Identifier: Apache-2.0
#include "core/generate/token_counts.h"

#include <algorithm>
#include <bit>

namespace retort::generate {

TokenCounts::TokenCounts(size_t most) : table_(std::bit_ceil(std::max<size_t>(2 * most, 16)), -1) {
  entries_.reserve(most);
}

TokenCounts::Entry& TokenCounts::Find(int32_t id) {
  const size_t mask = table_.size() - 1;
  size_t at = (static_cast<uint32_t>(id) * uint64_t{0x9E3779B97F4A7C15} >> 32) & mask;
  for (; table_[at] >= 0; at = (at + 1) & mask) {
    Entry& entry = entries_[static_cast<size_t>(table_[at])];
    if (entry.id == id) return entry;
  }
  table_[at] = static_cast<int32_t>(entries_.size());
  return entries_.emplace_back(Entry{.id = id});
}

}  // namespace retort::generate
