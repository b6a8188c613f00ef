// The BPE model: a word's bytes -> ids. Merges run lowest rank first, leftmost on ties; long
// words through a heap, so that a megabyte of one character costs n log n.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/json/json.h"
#include "core/text/bpe_tables.h"
#include "core/text/vocab.h"

namespace retort::text {

// What one encoding at a time needs: buffers that keep their size, and the words seen lately.
// Contents never change a result.
struct BpeScratch {
  struct Node {
    int32_t id, previous, next;  // indices of neighbours, -1: none
  };
  std::vector<Node> nodes;
  std::vector<uint64_t> heap;  // rank << 32 | node
  std::vector<uint32_t> ranks;

  // Words of at most kCachedWord bytes -> ids; emptied when full.
  static constexpr size_t kCachedWord = 64;
  struct CacheEntry {
    uint64_t hash = 0;
    uint32_t word = 0, ids = 0;
    uint16_t word_bytes = 0, n_ids = 0;  // n_ids 0 and word_bytes 0: free
  };
  std::vector<CacheEntry> cache;
  std::string cache_words;
  std::vector<int32_t> cache_ids;
  size_t cache_used = 0;
};

class Bpe {
 public:
  // `model` of tokenizer.json; `byte_level`: words are raw bytes, the vocabulary byte-mapped.
  // Vocabulary and merges come from `tables`, unless that is NULL.
  static Result<Bpe> FromJson(const json::Value& model, const BpeTables* tables, bool byte_level,
                              std::string_view what);

  void EncodeWord(std::string_view word, BpeScratch* scratch, std::vector<int32_t>* ids) const;

  const TokenMap& vocab() const { return vocab_; }
  const TokenTable& tokens() const { return tokens_; }
  bool byte_level() const { return byte_level_; }
  // `model`, the JSON object that this was made from, with the tables that came beside it.
  std::string WithTables(std::string_view model) const;

 private:
  Status ReadVocab(const json::Value& vocab, std::string_view what);
  Status ReadMerges(const json::Value& merges, std::string_view what);
  Status TakeTables(const BpeTables& tables, std::string_view what);
  Status AddMerge(size_t rank, std::string_view left, std::string_view right, std::string* joined,
                  std::string_view what);
  Status ReadUnknown(const json::Value& model, std::string_view what);
  void PrepareBytes();
  void Merge(std::string_view word, BpeScratch* scratch, std::vector<int32_t>* ids) const;
  void Symbols(std::string_view word, std::vector<BpeScratch::Node>* nodes) const;
  void CharSymbols(std::string_view word, std::vector<BpeScratch::Node>* nodes) const;
  void MergeShort(BpeScratch* scratch) const;
  void MergeLong(BpeScratch* scratch) const;
  bool Cached(std::string_view word, uint64_t hash, BpeScratch* scratch,
              std::vector<int32_t>* ids) const;
  void Remember(std::string_view word, uint64_t hash, const int32_t* ids, size_t n,
                BpeScratch* scratch) const;

  TokenMap vocab_;       // as spelled in the file
  TokenMap byte_words_;  // byte_level with ignore_merges: raw bytes -> id
  TokenTable tokens_;
  MergeMap merges_;
  std::vector<std::pair<int32_t, int32_t>> listed_;  // merges by rank, if they came as tables
  std::array<int32_t, 256> byte_ids_{};  // byte_level: id of a byte; else of <0xHH>; -1: none
  bool byte_level_ = false, byte_fallback_ = false, from_tables_ = false;
  bool fuse_unk_ = false, ignore_merges_ = false;
  int32_t unk_id_ = -1;
};

// GPT-2's byte map: printable bytes stand for themselves, the others for U+0100 on.
uint32_t ByteToChar(uint8_t byte);
int32_t CharToByte(uint32_t code_point);  // -1: not in the map
// The bytes that a byte-mapped token stands for; false if a character is not in the map.
bool UnmapBytes(std::string_view token, std::string* bytes);

}  // namespace retort::text
