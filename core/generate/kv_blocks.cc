// SPDX-License-Identifier: Apache-2.0
#include "core/generate/kv_blocks.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace retort::generate {

KvBlocks::KvBlocks(int64_t n) : total_(n) {
  free_.reserve(static_cast<size_t>(n));
  holders_.reserve(static_cast<size_t>(n));
}

int32_t KvBlocks::Take() {
  assert(promised_ > 0);
  --promised_;
  if (free_.empty()) {
    holders_.push_back(0);
    free_.push_back(static_cast<int32_t>(holders_.size()) - 1);
  }
  const int32_t block = free_.back();
  free_.pop_back();
  holders_[static_cast<size_t>(block)] = 1;
  peak_ = std::max(peak_, used());
  return block;
}

void KvBlocks::Drop(int32_t block) {
  if (--holders_[static_cast<size_t>(block)] == 0) free_.push_back(block);
}

BlockTable& BlockTable::operator=(BlockTable&& other) noexcept {
  if (this == &other) return *this;
  Clear();
  owner_ = std::exchange(other.owner_, nullptr);
  blocks_ = std::move(other.blocks_);
  other.blocks_.clear();
  promised_ = std::exchange(other.promised_, 0);
  return *this;
}

void BlockTable::Clear() {
  if (owner_ == nullptr) return;
  // The last first: the next to take blocks begins with this table's first, already touched.
  for (auto block = blocks_.rbegin(); block != blocks_.rend(); ++block) owner_->Drop(*block);
  owner_->promised_ -= promised_;
  blocks_.clear();
  promised_ = 0;
  owner_ = nullptr;
}

BlockTable BlockTable::Promise(KvBlocks& blocks, int64_t n) {
  assert(n <= blocks.available());
  BlockTable table;
  table.owner_ = &blocks;
  table.promised_ = n;
  blocks.promised_ += n;
  table.blocks_.reserve(static_cast<size_t>(n));
  return table;
}

BlockTable BlockTable::Share(const BlockTable& prefix, int64_t shared, int64_t n) {
  BlockTable table = Promise(*prefix.owner_, n);
  table.blocks_.reserve(static_cast<size_t>(shared + n));
  for (int32_t block : prefix.blocks().first(static_cast<size_t>(shared))) {
    ++prefix.owner_->holders_[static_cast<size_t>(block)];
    table.blocks_.push_back(block);
  }
  return table;
}

void BlockTable::Cover(int64_t positions) {
  while (static_cast<int64_t>(blocks_.size()) < KvBlocksOf(positions)) {
    blocks_.push_back(owner_->Take());
    --promised_;
  }
}

void BlockTable::PassPromise(BlockTable& to) {
  to.promised_ += std::exchange(promised_, 0);
  to.blocks_.reserve(to.blocks_.size() + static_cast<size_t>(to.promised_));
}

}  // namespace retort::generate
