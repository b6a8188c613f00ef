// What a pass over a graph keeps where: one buffer per live value, gradient and saved statistic,
// with offsets from lifetimes. Made once per graph and mode; a batch of T rows scales it.
//
// Time runs 0 .. n-1 over the nodes forward, n is the head, then the nodes backward. A buffer
// lives from its first writer to its last reader; buffers that never live together share memory.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/tensor.h"
#include "core/graph/graph.h"

namespace retort::engine {

enum class Mode : uint8_t { kInference, kTraining };

// Index into Plan::buffers; -1: none.
using BufferId = int32_t;

struct Buffer {
  int64_t width = 0;   // elements per row; fixed: elements
  int64_t offset = 0;  // in the same unit, from the start of its part of the arena
  int32_t first = 0, last = 0;
  bool fixed = false;  // doesn't grow with the rows; lies behind all that do
};

// How backward delivers the gradient of one input.
enum class Delivery : uint8_t {
  kWrite,        // the op overwrites the buffer
  kAccumulate,   // the op adds to what a later consumer wrote
  kAddScratch,   // as kAccumulate for ops that can only write: into scratch, then added
  kPassThrough,  // the output's gradient is the input's: same buffer, nothing to do
  kCopy,         // likewise, but the buffer can't be shared
  kAddGradient,  // likewise, added to what is there
  kWeight,       // of a param, to its gradient; by way of scratch where something is there
};

struct InputPlan {
  BufferId value = -1, grad = -1, scratch = -1;
  Delivery delivery = Delivery::kWrite;
};

struct NodePlan {
  BufferId out = -1, d_out = -1;
  // rstd of norms (layer_norm: mean and rstd), log-sum-exp of attention, scale x A^T of a linear
  // with an adapter (which has it in inference, too).
  BufferId saved = -1;
  // Of a linear with an adapter, scratch: dropout(x) forward; in backward dropout(x) and then the
  // gradient by it; the gradient by x A^T.
  BufferId lora_x = -1, lora_dx = -1, lora_dh = -1;
  BufferId scratch = -1, d_scratch = -1;  // of moe, forward and backward
  std::vector<InputPlan> in = {};
  bool fuse_next = false;  // add whose sum the next node norms: both in one pass
};

// What a custom node has beside its NodePlan.
struct CustomPlan {
  graph::OpSpec spec;                  // with inputs of the plan's dtype
  std::vector<BufferId> out;           // out[0] is NodePlan::out
  std::vector<BufferId> saved, d_out;  // training only
  std::vector<bool> d_out_is_zero;     // nobody reads this output: the gradient is zeroed
};

struct Plan {
  std::vector<Buffer> buffers;
  std::vector<NodePlan> nodes;      // as graph.nodes
  std::vector<CustomPlan> customs;  // as graph.customs
  BufferId hidden = -1, d_hidden = -1;
  int64_t row_elements = 0;    // arena elements per row
  int64_t fixed_elements = 0;  // and behind them
};

// `dtype`: of weights and activations. `adapter`: that training runs (-1: none); inference leaves
// room for any. Throws Error where a custom op can't do what the mode asks
// for (no backward, no f64); the message names node and op.
Plan MakePlan(const graph::Graph& graph, Mode mode, DType dtype = DType::kF32,
              int32_t adapter = -1);

// Where a buffer begins, in elements from the arena's start, for a batch of `padded_rows`.
int64_t ElementOffset(const Plan& plan, BufferId id, int64_t padded_rows);
int64_t ArenaElements(const Plan& plan, int64_t padded_rows);

}  // namespace retort::engine
