// Which ids a sample has seen and how often it wrote each: what penalties ask for. Takes its memory
// at the start; adding is a probe or two of an open-addressed table.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace retort::generate {

class TokenCounts {
 public:
  struct Entry {
    int32_t id = 0;
    int32_t written = 0;  // times in the completion; 0: in the prompt alone
  };

  TokenCounts() = default;  // takes no id
  // At most so many different ids.
  explicit TokenCounts(size_t most);

  bool takes_ids() const { return !table_.empty(); }
  void AddPrompt(int32_t id) { Find(id); }
  void AddCompletion(int32_t id) { ++Find(id).written; }
  // Each id once, in the order of their first appearance.
  std::span<const Entry> entries() const { return entries_; }

 private:
  Entry& Find(int32_t id);

  std::vector<Entry> entries_;
  std::vector<int32_t> table_;  // index into entries_ by hash, -1: empty; a power of two
};

}  // namespace retort::generate
