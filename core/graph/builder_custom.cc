// Nodes of op plugins, their outputs, and weights as values.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "core/graph/builder_impl.h"

namespace retort::graph {
namespace {

using Impl = Builder::Impl;

// False without a message where an input is an error that was noted before.
bool CheckInputs(Impl& impl, const std::string& here, const retort_value* in, uint32_t n_in) {
  if (n_in == 0 || n_in > kMaxOpInputs || in == nullptr) {
    impl.Fail(here + ": it has " + std::to_string(n_in) + " inputs; 1 to " +
              std::to_string(kMaxOpInputs) + " are allowed");
    return false;
  }
  for (uint32_t i = 0; i < n_in; ++i) {
    if (impl.HasValue(in[i])) continue;
    if (in[i].id != 0 || impl.errors.empty()) {
      impl.Fail(here + ": input " + std::to_string(i) + " is not a value of this graph");
    }
    return false;
  }
  if (std::any_of(in, in + n_in, [&](retort_value v) { return impl.HasRows(v); })) return true;
  impl.Fail(here + ": all its inputs are weights; one must be token rows");
  return false;
}

bool CheckOutputCount(Impl& impl, const std::string& here, uint32_t n_out) {
  if (n_out >= 1 && n_out <= RETORT_OP_MAX_OUTPUTS) return true;
  impl.Fail(here + ": it has " + std::to_string(n_out) + " outputs; 1 to " +
            std::to_string(RETORT_OP_MAX_OUTPUTS) + " are allowed");
  return false;
}

// Creates the instance and asks it for its shapes.
Result<CustomOp> MakeOp(const Impl& impl, const Node& node, std::string id,
                        std::string_view attributes) {
  CustomOp op;
  op.id = std::move(id);
  if (!impl.ops) return Unimplemented("custom ops can't be made here");
  RETORT_ASSIGN_OR_RETURN(op.attributes, CanonicalAttributes(attributes));
  RETORT_ASSIGN_OR_RETURN(op.handle, impl.ops(op.id, op.attributes));
  RETORT_ASSIGN_OR_RETURN(op.spec, InferOp(*op.handle, OpInputs(impl.graph, node),
                                           static_cast<uint32_t>(node.n_out), DType::kF32));
  return op;
}

}  // namespace

std::vector<OpInput> OpInputs(const Graph& graph, const Node& node) {
  std::vector<OpInput> inputs;
  for (int32_t v : node.in) {
    const Value& value = graph.values[static_cast<size_t>(v)];
    if (value.param < 0) {
      inputs.push_back({.width = value.width});
    } else {
      inputs.push_back({.weight_shape = graph.params[static_cast<size_t>(value.param)].shape});
    }
  }
  return inputs;
}

retort_value Builder::Impl::AddCustom(const char* op_id, const retort_value* in, uint32_t n_in,
                                      uint32_t n_out, retort_str attributes) {
  const std::string id = op_id == nullptr ? "" : op_id;
  const std::string here = Here("custom " + id);
  if (id.empty()) {
    Fail(here + ": it has no op id");
    return {0};
  }
  if (!CheckInputs(*this, here, in, n_in) || !CheckOutputCount(*this, here, n_out)) return {0};
  Node node{.op = Op::kCustom, .n_out = static_cast<int32_t>(n_out)};
  for (uint32_t i = 0; i < n_in; ++i) node.in.push_back(static_cast<int32_t>(in[i].id) - 1);
  Result<CustomOp> op = MakeOp(*this, node, id, ToView(attributes));
  if (!op.ok()) {
    Fail(here + ": " + op.status().message());
    unimplemented = unimplemented || op.status().code() == Code::kUnimplemented;
    return {0};
  }
  node.custom = static_cast<int32_t>(graph.customs.size());
  graph.customs.push_back(std::move(op).value());
  const std::vector<int64_t>& widths = graph.customs.back().spec.out_widths;
  const auto producer = static_cast<int32_t>(graph.nodes.size());
  const retort_value first = Add(std::move(node), widths[0]);
  for (size_t k = 1; k < widths.size(); ++k) {
    graph.values.push_back({.width = widths[k], .producer = producer});
  }
  return first;
}

retort_value Builder::Impl::OutputOf(retort_value custom, uint32_t index) {
  if (custom.id == 0 && !errors.empty()) return {0};
  const int32_t producer = HasRows(custom) ? graph.values[custom.id - 1].producer : -1;
  const Node* node = producer < 0 ? nullptr : &graph.nodes[static_cast<size_t>(producer)];
  if (node == nullptr || node->op != Op::kCustom ||
      node->out != static_cast<int32_t>(custom.id) - 1) {
    Fail("output_of: value " + std::to_string(custom.id) + " is not what custom gave");
    return {0};
  }
  if (index >= static_cast<uint32_t>(node->n_out)) {
    Fail("output_of: " + NodeName(graph, static_cast<size_t>(producer)) + " has no output " +
         std::to_string(index) + "; it has " + std::to_string(node->n_out));
    return {0};
  }
  return {custom.id + index};
}

retort_value Builder::Impl::ValueOf(retort_param p) {
  if (!HasParam(p)) {
    if (p.id != 0 || errors.empty()) Fail("value_of: it is not a param of this graph");
    return {0};
  }
  const auto param = static_cast<int32_t>(p.id) - 1;
  const auto same = [param](const Value& v) { return v.param == param; };
  const auto found = std::find_if(graph.values.begin(), graph.values.end(), same);
  if (found != graph.values.end()) {
    return {static_cast<uint32_t>(found - graph.values.begin()) + 1};
  }
  graph.values.push_back({.param = param});
  return {static_cast<uint32_t>(graph.values.size())};
}

void FillCustom(retort_builder_v1& table) {
  table.custom = [](void* ctx, const char* op_id, const retort_value* in, uint32_t n_in,
                    uint32_t n_out, retort_str attributes) {
    return Impl::From(ctx).AddCustom(op_id, in, n_in, n_out, attributes);
  };
  table.output_of = [](void* ctx, retort_value custom, uint32_t index) {
    return Impl::From(ctx).OutputOf(custom, index);
  };
  table.value_of = [](void* ctx, retort_param param) { return Impl::From(ctx).ValueOf(param); };
}

}  // namespace retort::graph
