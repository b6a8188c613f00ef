// Where the buffers of a training pass lie if it may use the memory of the gradients as well: no
// gradient holds anything before backward writes it, and by then the activations of the blocks
// above are dead. Apart from the plan's own offsets, which grow with the rows, a layout is made for
// a number of rows. No LibTorch: `retort plan` calls it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/tensor.h"
#include "core/engine/plan.h"
#include "core/graph/graph.h"

namespace retort::engine {

// One block for all gradients, in the order of graph::ParamOrder.
struct GradientSpace {
  std::vector<int64_t> offset;  // elements, by param; -1: not trained
  int64_t elements = 0;
};
// Offsets are multiples of 64 bytes.
GradientSpace PlaceGradients(const graph::Graph& graph, DType dtype, int32_t adapter);

struct Layout {
  // Elements, by BufferId (of columns: their parent's place counts). Those below `shared` are in
  // the gradients' memory, the others in the pass's own, from there on.
  std::vector<int64_t> offset;
  int64_t head = 0;  // of what the head works in, likewise
  int64_t shared = 0, own = 0;
};

// For up to `padded_rows` rows. A gradient that several micro-batches add up must survive a pass:
// this is for windows of one.
Layout LayOut(const graph::Graph& graph, const Plan& plan, const GradientSpace& gradients,
              int64_t padded_rows, int64_t head_elements);

}  // namespace retort::engine
