// SPDX-License-Identifier: Apache-2.0
#include "core/engine/pass_memory.h"

#include <algorithm>

namespace retort::engine {

void PassMemory::Prepare(int64_t rows, const Lent* lent) {
  const int64_t padded = PaddedRows(rows);
  if (lent == nullptr) {
    if (!lent_ && padded == padded_rows_) return;
    lent_ = false;
    padded_rows_ = padded;
    head_ = {};
    return PlaceByRows();
  }
  const bool fits = lent_ && padded <= padded_rows_ && lent->head_bytes <= head_bytes_;
  if (fits) return;
  // A layout serves all that is smaller, so it is made anew only for a larger one.
  padded_rows_ = lent_ ? std::max(padded_rows_, padded) : padded;
  head_bytes_ = std::max(head_bytes_, lent->head_bytes);
  lent_ = true;
  PlaceBeside(*lent);
}

void PassMemory::PlaceByRows() {
  arena_.Reserve(ArenaElements(plan_, padded_rows_) * DTypeSize(dtype_));
  for (size_t id = 0; id < address_.size(); ++id) {
    const int64_t offset = ElementOffset(plan_, static_cast<BufferId>(id), padded_rows_);
    address_[id] = arena_.data() + offset * DTypeSize(dtype_);
  }
}

void PassMemory::PlaceBeside(const Lent& lent) {
  const int64_t size = DTypeSize(dtype_);
  const int64_t head_elements = (head_bytes_ + size - 1) / size;
  const Layout layout = LayOut(graph_, plan_, *lent.gradients, padded_rows_, head_elements);
  arena_.Reserve(layout.own * size);
  const auto at = [&](int64_t offset) {
    return offset < layout.shared ? lent.data + offset * size
                                  : arena_.data() + (offset - layout.shared) * size;
  };
  for (size_t id = 0; id < address_.size(); ++id) {
    const Buffer& buffer = plan_.buffers[id];
    // A parent comes before its columns.
    address_[id] =
        buffer.parent < 0 ? at(layout.offset[id]) : At(buffer.parent) + buffer.column * size;
  }
  head_ = {at(layout.head), static_cast<size_t>(head_elements * size)};
}

}  // namespace retort::engine
