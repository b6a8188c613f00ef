// Who holds which block of the KV cache. A block stands for kKvBlock positions of all layers;
// tables that begin alike share theirs. What a sample may come to need is promised to it before it
// starts: so taking a block never fails, and no sample is ever interrupted. The memory itself is
// KvCache's. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace retort::generate {

inline constexpr int64_t kKvBlock = 64;  // positions

constexpr int64_t KvBlocksOf(int64_t positions) { return (positions + kKvBlock - 1) / kKvBlock; }

class KvBlocks {
 public:
  explicit KvBlocks(int64_t n);  // at most 2^31 - 1

  int64_t total() const { return total_; }
  int64_t used() const { return static_cast<int64_t>(holders_.size() - free_.size()); }
  int64_t peak() const { return peak_; }
  int64_t available() const { return total_ - used() - promised_; }
  int32_t holders(int32_t block) const { return holders_[static_cast<size_t>(block)]; }

 private:
  friend class BlockTable;
  int32_t Take();  // one of the promised
  void Drop(int32_t block);

  std::vector<int32_t> free_;     // given back; the one to take next at the back
  std::vector<int32_t> holders_;  // of each block that was ever taken: tables that it stands in
  int64_t total_, promised_ = 0, peak_ = 0;
};

// The blocks of one sequence, in order of position, and how many more are promised to it. Gives
// all back when it ends. Outlived by its KvBlocks.
class BlockTable {
 public:
  BlockTable() = default;
  ~BlockTable() { Clear(); }
  BlockTable(BlockTable&& other) noexcept { *this = static_cast<BlockTable&&>(other); }
  BlockTable& operator=(BlockTable&& other) noexcept;

  // An empty table with `n` blocks promised, which must be available.
  static BlockTable Promise(KvBlocks& blocks, int64_t n);
  // The first `shared` blocks of `prefix`, and `n` promised.
  static BlockTable Share(const BlockTable& prefix, int64_t shared, int64_t n);

  // Takes blocks from the promise until the table covers so many positions.
  void Cover(int64_t positions);
  // Hands the whole promise to a table that has none.
  void PassPromise(BlockTable& to);

  std::span<const int32_t> blocks() const { return blocks_; }
  int64_t promised() const { return promised_; }

 private:
  void Clear();

  KvBlocks* owner_ = nullptr;
  std::vector<int32_t> blocks_;
  int64_t promised_ = 0;
};

}  // namespace retort::generate
