// The vocabulary: token strings and ids, both ways, in one arena and one flat table.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"

namespace retort::text {

// Strings to ids; open addressing, no allocation per entry. Build once, then read from any thread.
class TokenMap {
 public:
  void Reserve(size_t entries, size_t bytes);
  // False (and nothing changes) if the string is already there.
  bool Insert(std::string_view token, int32_t id);
  std::optional<int32_t> Find(std::string_view token) const;
  size_t size() const { return entries_.size(); }
  size_t bytes() const { return arena_.size(); }

 private:
  struct Entry {
    uint64_t hash;
    uint32_t offset, length;
    int32_t id;
  };
  size_t Slot(std::string_view token, uint64_t hash) const;
  void Grow(size_t slots);
  std::string arena_;
  std::vector<Entry> entries_;
  std::vector<uint32_t> slots_;  // entry + 1; 0: free
};

// Ids to strings, with gaps.
class TokenTable {
 public:
  void Resize(int32_t ids, size_t bytes) {
    spans_.resize(static_cast<size_t>(ids));
    arena_.reserve(bytes);
  }
  void Set(int32_t id, std::string_view text);
  bool Has(int32_t id) const {
    return id >= 0 && static_cast<size_t>(id) < spans_.size() &&
           spans_[static_cast<size_t>(id)].set;
  }
  std::string_view Get(int32_t id) const;  // "" for a gap
  int32_t size() const { return static_cast<int32_t>(spans_.size()); }

 private:
  struct Span {
    uint32_t offset = 0, length : 31 = 0, set : 1 = 0;
  };
  std::string arena_;
  std::vector<Span> spans_;
};

// (left id, right id) -> rank and joined id.
class MergeMap {
 public:
  struct Merge {
    uint32_t rank;
    int32_t id;
  };
  static constexpr uint32_t kNone = 0xFFFFFFFF;
  void Reserve(size_t merges);
  void Set(int32_t left, int32_t right, Merge merge);  // a repeat replaces, as in HF
  Merge Find(int32_t left, int32_t right) const {
    if (slots_.empty()) return {kNone, -1};
    const uint64_t key = Key(left, right);
    for (size_t i = Hash(key) & mask_;; i = (i + 1) & mask_) {
      if (slots_[i].key == key) return slots_[i].merge;
      if (slots_[i].key == kFree) return {kNone, -1};
    }
  }

 private:
  struct SlotEntry {
    uint64_t key;
    Merge merge;
  };
  static constexpr uint64_t kFree = ~uint64_t{0};  // ids are never negative
  static uint64_t Key(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }
  static size_t Hash(uint64_t key) {
    const uint64_t x = (key ^ key >> 29) * 0x9E3779B97F4A7C15;
    return static_cast<size_t>(x ^ x >> 32);
  }
  std::vector<SlotEntry> slots_;
  size_t mask_ = 0;
};

// XXH3, inline for the short strings of this module.
uint64_t HashToken(std::string_view token);

}  // namespace retort::text
