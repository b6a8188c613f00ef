// What a pass over a graph keeps where: one buffer per live value, gradient and saved statistic,
// with offsets from lifetimes. Made once per graph and mode; a batch of T rows scales it.
//
// Time runs 0 .. n-1 over the nodes forward, n is the head, then the nodes backward. A buffer
// lives from its first writer to its last reader; buffers that never live together share memory.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/graph/graph.h"

namespace retort::engine {

enum class Mode : uint8_t { kInference, kTraining };

// Index into Plan::buffers; -1: none.
using BufferId = int32_t;

struct Buffer {
  int64_t width = 0;   // elements per row
  int64_t offset = 0;  // elements per row, from the arena's start
  int32_t first = 0, last = 0;
};

// How backward delivers the gradient of one input.
enum class Delivery : uint8_t {
  kWrite,        // the op overwrites the buffer
  kAccumulate,   // the op adds to what a later consumer wrote
  kAddScratch,   // as kAccumulate for ops that can only write: into scratch, then added
  kPassThrough,  // the output's gradient is the input's: same buffer, nothing to do
  kCopy,         // likewise, but the buffer can't be shared
  kAddGradient,  // likewise, added to what is there
};

struct InputPlan {
  BufferId value = -1, grad = -1, scratch = -1;
  Delivery delivery = Delivery::kWrite;
};

struct NodePlan {
  BufferId out = -1, d_out = -1;
  BufferId saved = -1;  // rstd of norms, log-sum-exp of attention
  std::array<InputPlan, 3> in{};
  bool fuse_next = false;  // add whose sum the next node norms: both in one pass
};

struct Plan {
  std::vector<Buffer> buffers;
  std::vector<NodePlan> nodes;  // as graph.nodes
  BufferId hidden = -1, d_hidden = -1;
  int64_t row_elements = 0;  // arena elements per row
};

Plan MakePlan(const graph::Graph& graph, Mode mode);

}  // namespace retort::engine
