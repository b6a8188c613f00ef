// SPDX-License-Identifier: Apache-2.0
#include "core/text/bpe.h"

#include <algorithm>
#include <functional>

#include "core/text/unicode.h"

namespace retort::text {
namespace {

constexpr size_t kShortWord = 24;  // symbols; longer words go through the heap
constexpr size_t kCacheSlots = size_t{1} << 15;

constexpr bool StandsForItself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct ByteMap {
  std::array<uint16_t, 256> chars{};
  std::array<int16_t, 0x144> bytes{};  // U+0000 .. U+0143
  constexpr ByteMap() {
    for (int16_t& b : bytes) b = -1;
    uint16_t next = 0x100;
    for (unsigned b = 0; b < 256; ++b) {
      chars[b] = StandsForItself(b) ? static_cast<uint16_t>(b) : next++;
      bytes[chars[b]] = static_cast<int16_t>(b);
    }
  }
};
constexpr ByteMap kByteMap;

}  // namespace

uint32_t ByteToChar(uint8_t byte) { return kByteMap.chars[byte]; }
int32_t CharToByte(uint32_t code_point) {
  return code_point < kByteMap.bytes.size() ? kByteMap.bytes[code_point] : -1;
}
bool UnmapBytes(std::string_view token, std::string* bytes) {
  bytes->clear();
  for (size_t at = 0; at < token.size();) {
    const Char c = CharAt(token, at);
    const int32_t byte = CharToByte(c.code_point);
    if (byte < 0) return false;
    bytes->push_back(static_cast<char>(byte));
    at += c.bytes;
  }
  return true;
}

void Bpe::EncodeWord(std::string_view word, BpeScratch* scratch, std::vector<int32_t>* ids) const {
  if (word.empty()) return;
  if (word.size() > BpeScratch::kCachedWord) {
    Merge(word, scratch, ids);
    return;
  }
  const uint64_t hash = HashToken(word);
  if (Cached(word, hash, scratch, ids)) return;
  const size_t first = ids->size();
  Merge(word, scratch, ids);
  Remember(word, hash, ids->data() + first, ids->size() - first, scratch);
}

bool Bpe::Cached(std::string_view word, uint64_t hash, BpeScratch* scratch,
                 std::vector<int32_t>* ids) const {
  if (scratch->cache.empty()) scratch->cache.resize(kCacheSlots);
  for (size_t i = hash & (kCacheSlots - 1);; i = (i + 1) & (kCacheSlots - 1)) {
    const BpeScratch::CacheEntry& entry = scratch->cache[i];
    if (entry.word_bytes == 0) return false;
    if (entry.hash != hash || entry.word_bytes != word.size() ||
        std::string_view(scratch->cache_words).substr(entry.word, entry.word_bytes) != word) {
      continue;
    }
    const int32_t* known = scratch->cache_ids.data() + entry.ids;
    ids->insert(ids->end(), known, known + entry.n_ids);
    return true;
  }
}

void Bpe::Remember(std::string_view word, uint64_t hash, const int32_t* ids, size_t n,
                   BpeScratch* scratch) const {
  if (scratch->cache_used >= kCacheSlots / 2) {
    std::fill(scratch->cache.begin(), scratch->cache.end(), BpeScratch::CacheEntry{});
    scratch->cache_words.clear();
    scratch->cache_ids.clear();
    scratch->cache_used = 0;
  }
  size_t i = hash & (kCacheSlots - 1);
  while (scratch->cache[i].word_bytes != 0) i = (i + 1) & (kCacheSlots - 1);
  scratch->cache[i] = {hash, static_cast<uint32_t>(scratch->cache_words.size()),
                       static_cast<uint32_t>(scratch->cache_ids.size()),
                       static_cast<uint16_t>(word.size()), static_cast<uint16_t>(n)};
  scratch->cache_words += word;
  scratch->cache_ids.insert(scratch->cache_ids.end(), ids, ids + n);
  ++scratch->cache_used;
}

void Bpe::Merge(std::string_view word, BpeScratch* scratch, std::vector<int32_t>* ids) const {
  if (ignore_merges_) {
    const auto whole = (byte_level_ ? byte_words_ : vocab_).Find(word);
    if (whole) {
      ids->push_back(*whole);
      return;
    }
  }
  scratch->nodes.clear();
  Symbols(word, &scratch->nodes);
  if (scratch->nodes.size() <= kShortWord) {
    MergeShort(scratch);
    for (const BpeScratch::Node& node : scratch->nodes) ids->push_back(node.id);
    return;
  }
  MergeLong(scratch);
  for (int32_t i = 0; i >= 0; i = scratch->nodes[static_cast<size_t>(i)].next) {
    ids->push_back(scratch->nodes[static_cast<size_t>(i)].id);
  }
}

void Bpe::Symbols(std::string_view word, std::vector<BpeScratch::Node>* nodes) const {
  if (!byte_level_) {
    CharSymbols(word, nodes);
    return;
  }
  bool after_unknown = false;
  for (char c : word) {
    const int32_t id = byte_ids_[static_cast<unsigned char>(c)];
    if (id >= 0) {
      nodes->push_back({id, 0, 0});
    } else if (unk_id_ >= 0 && !(fuse_unk_ && after_unknown)) {
      nodes->push_back({unk_id_, 0, 0});
    }
    after_unknown = id < 0;
  }
}

// A character that is no token: its bytes as <0xHH> tokens, or the unknown token, or nothing.
void Bpe::CharSymbols(std::string_view word, std::vector<BpeScratch::Node>* nodes) const {
  bool after_unknown = false;
  for (size_t at = 0; at < word.size();) {
    const std::string_view c = word.substr(at, CharBytes(word[at]));
    at += c.size();
    if (const auto id = vocab_.Find(c)) {
      nodes->push_back({*id, 0, 0});
      after_unknown = false;
      continue;
    }
    const auto byte_id = [&](char b) { return byte_ids_[static_cast<unsigned char>(b)]; };
    if (byte_fallback_ &&
        std::all_of(c.begin(), c.end(), [&](char b) { return byte_id(b) >= 0; })) {
      for (char b : c) nodes->push_back({byte_id(b), 0, 0});
      after_unknown = false;
      continue;
    }
    if (unk_id_ >= 0 && !(fuse_unk_ && after_unknown)) nodes->push_back({unk_id_, 0, 0});
    after_unknown = true;
  }
}

// Few symbols: look for the best pair again and again.
void Bpe::MergeShort(BpeScratch* scratch) const {
  auto& nodes = scratch->nodes;
  auto& ranks = scratch->ranks;
  const auto rank_of = [&](size_t i) { return merges_.Find(nodes[i].id, nodes[i + 1].id).rank; };
  ranks.assign(nodes.size(), MergeMap::kNone);
  for (size_t i = 0; i + 1 < nodes.size(); ++i) ranks[i] = rank_of(i);
  while (nodes.size() > 1) {
    const auto best = std::min_element(ranks.begin(), ranks.end() - 1);
    if (*best == MergeMap::kNone) return;
    const auto i = static_cast<size_t>(best - ranks.begin());
    nodes[i].id = merges_.Find(nodes[i].id, nodes[i + 1].id).id;
    nodes.erase(nodes.begin() + static_cast<ptrdiff_t>(i) + 1);
    ranks.erase(ranks.begin() + static_cast<ptrdiff_t>(i) + 1);
    ranks[i] = i + 1 < nodes.size() ? rank_of(i) : MergeMap::kNone;
    if (i > 0) ranks[i - 1] = rank_of(i - 1);
  }
}

// Many symbols: a linked list, and a heap of pairs by (rank, position). A popped pair whose
// current rank is another one is out of date; a dead node has id -1.
void Bpe::MergeLong(BpeScratch* scratch) const {
  auto& nodes = scratch->nodes;
  auto& heap = scratch->heap;
  const auto n = static_cast<int32_t>(nodes.size());
  heap.clear();
  const auto node = [&](int32_t i) -> BpeScratch::Node& { return nodes[static_cast<size_t>(i)]; };
  const auto find = [&](int32_t i) {
    const int32_t next = node(i).next;
    return next < 0 ? MergeMap::Merge{MergeMap::kNone, -1}
                    : merges_.Find(node(i).id, node(next).id);
  };
  const auto entry = [](uint32_t rank, int32_t i) {
    return uint64_t{rank} << 32 | static_cast<uint32_t>(i);
  };
  for (int32_t i = 0; i < n; ++i) {
    node(i).previous = i - 1;
    node(i).next = i + 1 < n ? i + 1 : -1;
  }
  for (int32_t i = 0; i < n; ++i) {
    const MergeMap::Merge merge = find(i);
    if (merge.rank != MergeMap::kNone) heap.push_back(entry(merge.rank, i));
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto push = [&](int32_t i) {
    const MergeMap::Merge merge = find(i);
    if (merge.rank == MergeMap::kNone) return;
    heap.push_back(entry(merge.rank, i));
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const uint64_t top = heap.back();
    heap.pop_back();
    const auto i = static_cast<int32_t>(top & 0xFFFFFFFF);
    if (node(i).id < 0) continue;
    const MergeMap::Merge merge = find(i);
    if (merge.rank != top >> 32) continue;
    const int32_t gone = node(i).next;
    node(i).id = merge.id;
    node(i).next = node(gone).next;
    if (node(i).next >= 0) node(node(i).next).previous = i;
    node(gone).id = -1;
    push(i);
    if (node(i).previous >= 0) push(node(i).previous);
  }
}

}  // namespace retort::text
