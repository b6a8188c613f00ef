// Buffers laid out one behind the other: first without memory, to learn how much they take, then
// with it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <initializer_list>

#include "core/base/tensor.h"
#include "core/engine/arena.h"

namespace retort::engine {

class ArenaLayout {
 public:
  explicit ArenaLayout(unsigned char* memory) : memory_(memory) {}  // NULL: sizes alone
  void operator()(TensorView& view, DType type, std::initializer_list<int64_t> shape) {
    constexpr int64_t kAlignment = 64;
    view = TensorView::Contiguous(memory_ == nullptr ? nullptr : memory_ + bytes_, type, shape);
    bytes_ += (view.bytes() + kAlignment - 1) / kAlignment * kAlignment;
  }
  int64_t bytes() const { return bytes_; }

 private:
  unsigned char* memory_;
  int64_t bytes_ = 0;
};

// place(ArenaLayout&) is called twice, the second time with memory of the arena.
template <class Place>
void PlaceIn(Arena& arena, Place place) {
  ArenaLayout sizes(nullptr);
  place(sizes);
  arena.Reserve(sizes.bytes());
  ArenaLayout real(arena.data());
  place(real);
}

}  // namespace retort::engine
