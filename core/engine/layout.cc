// SPDX-License-Identifier: Apache-2.0
#include "core/engine/layout.h"

#include <algorithm>
#include <limits>

#include "core/graph/merge.h"

namespace retort::engine {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int32_t kAlways = std::numeric_limits<int32_t>::max();

int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Something that holds memory from one time to another.
struct Piece {
  int64_t width = 0, offset = 0;
  int32_t first = 0, last = 0;
  int64_t end() const { return offset + width; }
  bool LivesWith(const Piece& other) const { return first <= other.last && other.first <= last; }
};

// Places pieces into one space, each at the lowest offset where it meets none that lives with it.
class Space {
 public:
  void Add(const Piece& piece) {
    const auto before = [](const Piece& a, const Piece& b) { return a.offset < b.offset; };
    pieces_.insert(std::upper_bound(pieces_.begin(), pieces_.end(), piece, before), piece);
  }

  int64_t Place(Piece piece) {
    for (const Piece& other : pieces_) {
      if (!other.LivesWith(piece)) continue;
      if (other.offset >= piece.end()) break;
      piece.offset = std::max(piece.offset, other.end());
    }
    Add(piece);
    return piece.offset;
  }

 private:
  std::vector<Piece> pieces_;  // by offset
};

// Each gradient from its first write on; and that nothing lies across the end of their memory.
void AddGradients(const graph::Graph& graph, const Plan& plan, const GradientSpace& gradients,
                  int64_t end, Space* space) {
  for (size_t p = 0; p < graph.params.size(); ++p) {
    if (gradients.offset[p] < 0) continue;
    space->Add({.width = graph.params[p].numel(),
                .offset = gradients.offset[p],
                .first = plan.gradient_times[p],
                .last = kAlways});
  }
  space->Add({.width = 0, .offset = end, .first = 0, .last = kAlways});
}

struct Wanted {
  Piece piece;
  int64_t* offset = nullptr;  // where the answer goes
};

// What lives longest first: backward frees the blocks from the last one on, so what it still needs
// stays at the low end.
bool GoesFirst(const Wanted& a, const Wanted& b) {
  if (a.piece.last != b.piece.last) return a.piece.last > b.piece.last;
  return a.piece.width > b.piece.width;
}

}  // namespace

GradientSpace PlaceGradients(const graph::Graph& graph, DType dtype, int32_t adapter) {
  const int64_t aligned = kAlignment / DTypeSize(dtype);
  GradientSpace space{.offset = std::vector<int64_t>(graph.params.size(), -1)};
  for (int32_t index : graph::ParamOrder(graph)) {
    const graph::Param& param = graph.params[static_cast<size_t>(index)];
    if (!IsTrained(param, adapter)) continue;
    space.offset[static_cast<size_t>(index)] = space.elements;
    space.elements += RoundUp(param.numel(), aligned);
  }
  return space;
}

Layout LayOut(const graph::Graph& graph, const Plan& plan, const GradientSpace& gradients,
              int64_t padded_rows, int64_t head_elements) {
  Layout layout{.offset = std::vector<int64_t>(plan.buffers.size(), -1),
                .shared = RoundUp(gradients.elements, kRowAlignment)};
  std::vector<Wanted> all = {{.piece = {.width = RoundUp(head_elements, kRowAlignment),
                                        .first = plan.head_time,
                                        .last = plan.head_time},
                              .offset = &layout.head}};
  for (size_t id = 0; id < plan.buffers.size(); ++id) {
    const Buffer& buffer = plan.buffers[id];
    if (buffer.parent >= 0) continue;
    all.push_back({.piece = {.width = buffer.fixed ? buffer.width : buffer.width * padded_rows,
                             .first = buffer.first,
                             .last = buffer.last},
                   .offset = &layout.offset[id]});
  }
  std::stable_sort(all.begin(), all.end(), GoesFirst);
  Space space;
  AddGradients(graph, plan, gradients, layout.shared, &space);
  int64_t end = layout.shared;
  for (const Wanted& wanted : all) {
    *wanted.offset = space.Place(wanted.piece);
    end = std::max(end, *wanted.offset + wanted.piece.width);
  }
  layout.own = end - layout.shared;
  return layout;
}

}  // namespace retort::engine
