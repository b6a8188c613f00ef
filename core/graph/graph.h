// The layer graph of a decoder: written once by a family plugin through the builder table,
// immutable afterwards, executed by the engine for training and decoding alike.
// Every value is a matrix of packed token rows, [T, width]. Shapes of params are [out, in].
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/graph/custom_op.h"
#include "retort/abi/draft/family.h"

namespace retort::graph {

enum class Op : uint8_t {
  kEmbed,       // in: - ; params: table [V,D]; scale
  kLinear,      // in: x; params: weight [O,I], bias [O] or -1
  kRmsNorm,     // in: x; params: weight [D]; eps, weight_offset
  kLayerNorm,   // in: x; params: weight [D], bias [D] or -1; eps
  kHeadNorm,    // in: x; params: weight [H]; eps, weight_offset, head_dim
  kRope,        // in: x; n_heads, rope
  kAttention,   // in: q [T,N*H], k [T,G*H], v [T,G*H]; layer, attention
  kActivation,  // in: x; activation
  kGated,       // in: gate, up; activation
  kAdd,         // in: a, b; or in: a; params: weight [D], for every row
  kMul,         // in: a, b (same width, or width 1); or in: a; params: weight [D] or [1]
  kScale,       // in: x; scale
  kSlice,       // in: x; n_heads, begin, end
  kConcat,      // in: 1 to kMaxConcatInputs; n_heads, repeats
  kMoe,         // in: x, router logits; params: gate_up [E,2F,D], down [E,D,F], bias [E] or -1; moe
  kCustom,      // in: what the op takes, rows or weights; custom, n_out
};
const char* OpName(Op op);
constexpr size_t kMaxConcatInputs = 64;
constexpr int64_t kMaxExperts = 1024;

// An init rule beside RETORT_INIT_*, of adapters: uniform in [-init_value, init_value).
inline constexpr uint32_t kInitUniform = 0x80000000;

// Where (part of) a param comes from in a checkpoint. Sources stack by rows.
struct Source {
  std::string checkpoint_name;
  int64_t row_begin = 0, row_end = 0;  // 0,0: all rows
  bool transpose = false, optional = false;
};

struct Param {
  std::string name;
  std::vector<int64_t> shape = {};
  std::vector<Source> sources = {};  // never empty: by default one, the param's own name
  uint32_t roles = 0;                // RETORT_ROLE_* bits, worked out from its use in the graph
  uint32_t flags = 0;                // RETORT_PARAM_* bits of the family
  uint32_t init = 0;                 // RETORT_INIT_* or kInitUniform
  double init_value = 0;
  int32_t adapter = -1;  // index into Graph::adapters; -1: of the base model
  int64_t numel() const {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    return n;
  }
};

struct RopeSpec {
  uint32_t layout = 0;  // RETORT_ROPE_HALVES or _INTERLEAVED
  int64_t rotary_dim = 0, max_positions = 0;
  double theta = 10000;
  std::string scaling_json = {};  // "" : none
};

struct AttentionSpec {
  int64_t n_heads = 0, n_kv_heads = 0, head_dim = 0, window = 0;  // window 0: full
  double scale = 0, soft_cap = 0;                                 // soft_cap 0: none
};

// A layer of experts, each a gated MLP of its own; see retort_moe_spec.
struct MoeSpec {
  int64_t n_experts = 0, top_k = 0;
  int64_t n_groups = 1, top_k_groups = 1;  // of experts; equal: any expert may be chosen
  int64_t hidden = 0;                      // F, the width inside one expert
  uint32_t activation = 0;
  bool norm_top_k = false, sigmoid = false;
  double scale = 1, aux_coef = 0;
};

// The low-rank part that an adapter adds to a linear node (LoRA, arXiv 2106.09685):
//   y[:, out_begin + j] += scale * dropout(x) A^T B[b_begin + j]^T   for j in 0 .. n_out - 1
// with A [r, in] and B [rows of the module, r] (params). A module is a matrix of the checkpoint: a
// node whose weight stacks several has a part for each; nodes whose weights are rows of one module
// share its A and B, and draw the same dropout.
struct LoraPart {
  int32_t adapter = -1;  // index into Graph::adapters
  int32_t a = -1, b = -1;
  double scale = 1, dropout = 0;
  int64_t out_begin = 0, b_begin = 0, n_out = 0;
};

struct Node {
  Op op = Op::kAdd;
  std::vector<int32_t> in = {};      // value indices
  int32_t out = -1;                  // value index; of the first output
  int32_t n_out = 1;                 // custom: its outputs are values out .. out + n_out - 1
  std::vector<int32_t> params = {};  // param indices; -1: absent
  int32_t block = -1;                // index of the block it belongs to, -1 before the first
  double eps = 0, weight_offset = 0, scale = 1;
  int64_t head_dim = 0, n_heads = 0;
  int64_t begin = 0, end = 0;  // slice: of each head
  uint64_t repeats = 0;        // concat: bit k: input k is one head, repeated for each
  uint32_t activation = 0;     // RETORT_ACTIVATION_*
  int32_t layer = -1;          // attention: index of the KV cache layer, dense from 0
  RopeSpec rope = {};
  AttentionSpec attention = {};
  MoeSpec moe = {};
  int32_t custom = -1;              // custom: index into Graph::customs
  std::vector<LoraPart> lora = {};  // linear: of any adapters; a pass runs one adapter or none
  bool Repeats(size_t input) const { return (repeats >> input & 1) != 0; }
};

struct Value {
  int64_t width = 0;      // of a row; 0: a weight
  int32_t producer = -1;  // node index; -1: a weight
  int32_t param = -1;     // a weight (value_of): its index
  bool one_head = false;  // its op says that the row is one head
};

struct Graph {
  std::string family;  // id of the plugin that wrote it
  std::vector<Value> values;
  std::vector<Param> params;
  std::vector<Node> nodes;            // in execution order
  std::vector<CustomOp> customs;      // their instances make a graph move-only
  std::vector<std::string> adapters;  // names; see core/graph/lora.h
  int32_t n_blocks = 0;
  int32_t n_layers = 0;     // attention nodes
  int32_t hidden = -1;      // value that the head reads (already normed)
  int32_t head = -1;        // param [V,D]; equal to the embedding's index when tied
  bool has_lm_head = true;  // false: a reward model; `head` only says how many ids there are
  int32_t value_head = -1;  // param [1,D] (core/graph/value_head.h); -1: none
  double logit_scale = 1, logit_soft_cap = 0;
  int64_t vocab() const { return params[static_cast<size_t>(head)].shape[0]; }
  int64_t width() const { return values[static_cast<size_t>(hidden)].width; }
  int64_t n_params() const;  // elements; a tied head once
};

// "node 12 (custom xielu, block 0)": for messages.
std::string NodeName(const Graph& graph, size_t node);
// What a custom node's op sees as inputs. Points into graph.params.
std::vector<OpInput> OpInputs(const Graph& graph, const Node& node);

// The host side of retort_builder_v1. One graph per builder; mistakes of the plugin (bad shapes,
// unknown ids, a missing result) are collected and come back from Finish as one error.
class Builder {
 public:
  // Without `ops` a custom node is refused.
  explicit Builder(std::string family, OpFactory ops = {});
  ~Builder();
  const retort_builder_v1* table() const;
  Result<Graph> Finish();

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

// A table for people: node, op, shapes, params with checkpoint names; totals at the end.
std::string Print(const Graph& graph);

}  // namespace retort::graph
