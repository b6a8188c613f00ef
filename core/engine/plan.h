// What a pass over a graph keeps where: one buffer per live value, gradient and saved statistic,
// with offsets from lifetimes. Made once per graph and mode; a batch of T rows scales it.
//
// Time runs 0 .. n-1 over the nodes forward, n is the head, then each step of backward. A buffer
// lives from its first writer to its last reader; buffers that never live together share memory.
// Backward computes only what leads to a trained param. Values that the recompute level drops are
// worked out again, right before the first backward that reads them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/tensor.h"
#include "core/graph/graph.h"
#include "core/graph/merge.h"

namespace retort::engine {

enum class Mode : uint8_t { kInference, kTraining };

// Whether training (of one adapter, or -1: of the base) changes the param.
inline bool IsTrained(const graph::Param& param, int32_t adapter) {
  return param.adapter == adapter && (param.flags & RETORT_PARAM_FROZEN) == 0;
}

// Index into Plan::buffers; -1: none.
using BufferId = int32_t;

struct Buffer {
  int64_t width = 0;   // elements per row; fixed: elements
  int64_t offset = 0;  // in the same unit, from the start of its part of the arena
  int32_t first = 0, last = 0;
  bool fixed = false;    // doesn't grow with the rows; lies behind all that do
  BufferId parent = -1;  // these are `width` columns of another buffer, which has memory and life
  int64_t column = 0;    // the first of them
};

// How backward delivers the gradient of one input.
enum class Delivery : uint8_t {
  kNone,         // nobody wants it (ops that can't leave it out write into scratch: grad)
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
  Delivery delivery = Delivery::kNone;
};

// One run of a node, forward or backward. Forward has values; backward has those that it reads and
// gradients.
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
  // Linear: index into Plan::groups; the first node of a group runs the product of all of them
  // (out and d_out are the group's, whose columns the nodes' values are).
  int32_t group = -1;
  bool skip = false;    // another node of its group runs it; or backward: nothing to do
  int32_t custom = -1;  // index into Plan::customs
};

// What a run of a custom node has beside its NodePlan.
struct CustomPlan {
  graph::OpSpec spec = {};                       // with inputs of the plan's dtype
  std::vector<BufferId> out = {};                // out[0] is NodePlan::out
  std::vector<BufferId> saved = {}, d_out = {};  // training only
  std::vector<bool> d_out_is_zero = {};          // nobody reads this output: the gradient is zeroed
};

// A step of backward: of a node, or `again` >= 0: its forward once more, by recomputed[again].
struct BackwardStep {
  int32_t node = -1, again = -1;
};

struct Plan {
  std::vector<Buffer> buffers;
  std::vector<NodePlan> nodes;            // forward, as graph.nodes
  std::vector<NodePlan> backward;         // training: as graph.nodes
  std::vector<NodePlan> recomputed;       // forward once more
  std::vector<BackwardStep> steps;        // of backward, in order
  std::vector<CustomPlan> customs;        // first as graph.customs, forward
  std::vector<graph::MergeGroup> groups;  // that are executed as one product
  BufferId hidden = -1, d_hidden = -1;
  int32_t head_time = 0;                // when head and losses run
  std::vector<int32_t> gradient_times;  // of graph.params: the first write; INT32_MAX: never
  int64_t row_elements = 0;             // arena elements per row
  int64_t fixed_elements = 0;           // and behind them
};

inline constexpr int32_t kRecomputeMost = 2;

struct PlanOptions {
  Mode mode = Mode::kInference;
  DType dtype = DType::kF32;  // of activations
  int32_t adapter = -1;       // that training runs (-1: none); inference leaves room for any
  // Training: what is computed again in backward instead of kept.
  // 0: nothing. 1: norms' outputs and (gated) activations. 2: all inside a block.
  int32_t recompute = 0;
  std::span<const graph::MergeGroup> groups = {};  // whose weights lie side by side
};

// Throws Error where a custom op can't do what the mode asks for (no backward, no f64); the message
// names node and op.
Plan MakePlan(const graph::Graph& graph, const PlanOptions& options);
inline Plan MakePlan(const graph::Graph& graph, Mode mode, DType dtype = DType::kF32,
                     int32_t adapter = -1) {
  return MakePlan(graph, {.mode = mode, .dtype = dtype, .adapter = adapter});
}

// Where a buffer begins, in elements from the arena's start, for a batch of `padded_rows`; and from
// one of its rows to the next.
int64_t ElementOffset(const Plan& plan, BufferId id, int64_t padded_rows);
int64_t RowStride(const Plan& plan, BufferId id);
int64_t ArenaElements(const Plan& plan, int64_t padded_rows);

// Rows of a buffer are padded to it, so that every offset is a multiple of 64 bytes.
inline constexpr int64_t kRowAlignment = 16;
inline int64_t PaddedRows(int64_t rows) {
  return (rows + kRowAlignment - 1) / kRowAlignment * kRowAlignment;
}

}  // namespace retort::engine
