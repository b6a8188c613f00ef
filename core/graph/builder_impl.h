// What Builder's parts share: the graph under construction and the list of mistakes so far.
// A mistake is kept, the call answers id 0, and later calls on id 0 stay silent: one error
// message then lists the causes, not their echoes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/graph/graph.h"

namespace retort::graph {

struct Builder::Impl {
  Graph graph;
  retort_builder_v1 table{};
  OpFactory ops;
  std::vector<std::string> errors;
  bool has_result = false;
  bool unimplemented = false;  // an op of the ABI that this host doesn't execute was asked for

  static Impl& From(void* ctx) { return *static_cast<Impl*>(ctx); }

  void Fail(const std::string& message) { errors.push_back(message); }

  bool HasValue(retort_value v) const { return v.id >= 1 && v.id <= graph.values.size(); }
  bool HasParam(retort_param p) const { return p.id >= 1 && p.id <= graph.params.size(); }
  const Param& ParamOf(retort_param p) const { return graph.params[p.id - 1]; }
  int64_t WidthOf(retort_value v) const { return graph.values[v.id - 1].width; }

  // Where a call that follows stands, for messages: `node 12 (linear)`.
  std::string Here(Op op) const;
  std::string Here(const std::string& what) const;
  // Both false without a new message if the id is 0 (its cause is known already).
  bool CheckValue(Op op, const char* name, retort_value v);
  bool CheckParam(Op op, const char* name, retort_param p);
  // A value that stands for token rows, not a weight.
  bool HasRows(retort_value v) const { return HasValue(v) && graph.values[v.id - 1].param < 0; }
  // The param has exactly this shape; -1: any size.
  bool CheckShape(Op op, retort_param p, std::vector<int64_t> want);
  bool CheckEps(Op op, double eps);
  // Its weight, where the value is one; else 0.
  retort_param WeightOf(retort_value v) const {
    const int32_t param = HasValue(v) ? graph.values[v.id - 1].param : -1;
    return {static_cast<uint32_t>(param + 1)};
  }
  // Appends the node and its output value.
  retort_value Add(Node node, int64_t out_width);
  retort_value AddCustom(const char* op_id, const retort_value* in, uint32_t n_in, uint32_t n_out,
                         retort_str attributes);
  retort_value OutputOf(retort_value custom, uint32_t index);
  retort_value ValueOf(retort_param p);

  retort_param AddParam(const retort_param_spec& spec);
  void SetResult(retort_value hidden, retort_param head, double logit_scale, double soft_cap);
};

// Fills the op callbacks of the table (builder_ops.cc).
void FillOps(retort_builder_v1& table);
// Those of builder_rows.cc.
void FillRowOps(retort_builder_v1& table);
// moe (builder_moe.cc).
void FillMoe(retort_builder_v1& table);
// custom, output_of and value_of (builder_custom.cc).
void FillCustom(retort_builder_v1& table);
// Looks at the whole graph: unused values and params, layers, sources; works out param roles.
void CheckAndAssignRoles(Graph& graph, std::vector<std::string>& errors);

inline int32_t Index(retort_value v) { return static_cast<int32_t>(v.id) - 1; }
inline int32_t Index(retort_param p) { return static_cast<int32_t>(p.id) - 1; }

std::string ShapeText(const std::vector<int64_t>& shape);

}  // namespace retort::graph
