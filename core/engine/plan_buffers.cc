// Buffers of a plan: their making, their lives, and where they lie if they grow with the rows.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <numeric>

#include "core/engine/planner.h"

namespace retort::engine {

namespace {
constexpr int64_t kFixedAlignment = 16;  // elements: 64 bytes and more
}  // namespace

BufferId Planner::NewBuffer(int64_t width, int32_t time) {
  plan_.buffers.push_back({.width = width, .first = time, .last = time});
  return static_cast<BufferId>(plan_.buffers.size() - 1);
}

BufferId Planner::NewFixedBuffer(int64_t elements, int32_t time) {
  const int64_t blocks = (elements + kFixedAlignment - 1) / kFixedAlignment;
  const BufferId id = NewBuffer(blocks * kFixedAlignment, time);
  At(plan_.buffers, id).fixed = true;
  return id;
}

BufferId Planner::NewColumns(BufferId parent, int64_t column, int64_t width) {
  const BufferId id = NewBuffer(width, At(plan_.buffers, parent).first);
  At(plan_.buffers, id).parent = parent;
  At(plan_.buffers, id).column = column;
  return id;
}

void Planner::Use(BufferId id, int32_t time) {
  if (id < 0) return;  // a weight
  Buffer& buffer = At(plan_.buffers, id);
  if (buffer.parent >= 0) return Use(buffer.parent, time);
  buffer.last = std::max(buffer.last, time);
}

// Largest first, each at the lowest offset where it meets none of those placed that live with it.
// Returns the size of the whole part.
int64_t Planner::AssignOffsets(bool fixed) {
  int64_t end = 0;
  std::vector<size_t> order(plan_.buffers.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::erase_if(order, [&](size_t id) {
    return plan_.buffers[id].fixed != fixed || plan_.buffers[id].parent >= 0;
  });
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return plan_.buffers[a].width > plan_.buffers[b].width;
  });
  std::vector<size_t> placed;  // by offset
  for (size_t id : order) {
    Buffer& buffer = plan_.buffers[id];
    int64_t offset = 0;
    for (size_t other_id : placed) {
      const Buffer& other = plan_.buffers[other_id];
      if (share_memory_ && (other.last < buffer.first || buffer.last < other.first)) continue;
      if (other.offset >= offset + buffer.width) break;
      offset = std::max(offset, other.offset + other.width);
    }
    buffer.offset = offset;
    end = std::max(end, offset + buffer.width);
    const auto at =
        std::upper_bound(placed.begin(), placed.end(), offset,
                         [&](int64_t o, size_t p) { return o < plan_.buffers[p].offset; });
    placed.insert(at, id);
  }
  return end;
}

int64_t ElementOffset(const Plan& plan, BufferId id, int64_t padded_rows) {
  const Buffer& buffer = plan.buffers[static_cast<size_t>(id)];
  if (buffer.parent >= 0) return ElementOffset(plan, buffer.parent, padded_rows) + buffer.column;
  if (buffer.fixed) return plan.row_elements * padded_rows + buffer.offset;
  return buffer.offset * padded_rows;
}

int64_t RowStride(const Plan& plan, BufferId id) {
  const Buffer& buffer = plan.buffers[static_cast<size_t>(id)];
  return buffer.parent >= 0 ? RowStride(plan, buffer.parent) : buffer.width;
}

int64_t ArenaElements(const Plan& plan, int64_t padded_rows) {
  return plan.row_elements * padded_rows + plan.fixed_elements;
}

}  // namespace retort::engine
