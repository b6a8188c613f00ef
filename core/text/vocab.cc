// SPDX-License-Identifier: Apache-2.0
#include "core/text/vocab.h"

#include <bit>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace retort::text {

uint64_t HashToken(std::string_view token) { return XXH3_64bits(token.data(), token.size()); }

void TokenMap::Reserve(size_t entries, size_t bytes) {
  arena_.reserve(bytes);
  entries_.reserve(entries);
  Grow(std::bit_ceil(entries * 2 + 16));
}

void TokenMap::Grow(size_t slots) {
  slots_.assign(slots, 0);
  for (size_t e = 0; e < entries_.size(); ++e) {
    size_t i = entries_[e].hash & (slots - 1);
    while (slots_[i] != 0) i = (i + 1) & (slots - 1);
    slots_[i] = static_cast<uint32_t>(e + 1);
  }
}

// The slot that holds the token, or the free one where it would go.
size_t TokenMap::Slot(std::string_view token, uint64_t hash) const {
  for (size_t i = hash & (slots_.size() - 1);; i = (i + 1) & (slots_.size() - 1)) {
    if (slots_[i] == 0) return i;
    const Entry& entry = entries_[slots_[i] - 1];
    if (entry.hash == hash &&
        std::string_view(arena_).substr(entry.offset, entry.length) == token) {
      return i;
    }
  }
}

bool TokenMap::Insert(std::string_view token, int32_t id) {
  if (entries_.size() * 2 >= slots_.size()) Grow(std::bit_ceil(entries_.size() * 4 + 16));
  const uint64_t hash = HashToken(token);
  const size_t slot = Slot(token, hash);
  if (slots_[slot] != 0) return false;
  entries_.push_back(
      {hash, static_cast<uint32_t>(arena_.size()), static_cast<uint32_t>(token.size()), id});
  arena_ += token;
  slots_[slot] = static_cast<uint32_t>(entries_.size());
  return true;
}

std::optional<int32_t> TokenMap::Find(std::string_view token) const {
  if (slots_.empty()) return std::nullopt;
  const uint32_t entry = slots_[Slot(token, HashToken(token))];
  if (entry == 0) return std::nullopt;
  return entries_[entry - 1].id;
}

void TokenTable::Set(int32_t id, std::string_view text) {
  Span& span = spans_[static_cast<size_t>(id)];
  span.offset = static_cast<uint32_t>(arena_.size());
  span.length = static_cast<uint32_t>(text.size()) & 0x7FFFFFFF;
  span.set = 1;
  arena_ += text;
}

std::string_view TokenTable::Get(int32_t id) const {
  if (!Has(id)) return {};
  const Span& span = spans_[static_cast<size_t>(id)];
  return std::string_view(arena_).substr(span.offset, span.length);
}

void MergeMap::Reserve(size_t merges) {
  const size_t slots = std::bit_ceil(merges + merges / 2 + 16);
  slots_.assign(slots, {kFree, {kNone, -1}});
  mask_ = slots - 1;
}

void MergeMap::Set(int32_t left, int32_t right, Merge merge) {
  const uint64_t key = Key(left, right);
  size_t i = Hash(key) & mask_;
  while (slots_[i].key != kFree && slots_[i].key != key) i = (i + 1) & mask_;
  slots_[i] = {key, merge};
}

}  // namespace retort::text
