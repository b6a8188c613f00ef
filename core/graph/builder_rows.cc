// Op callbacks of the builder table that work row by row without a matrix: see builder_ops.cc for
// how they answer.
// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "core/graph/builder_impl.h"

namespace retort::graph {
namespace {

using Impl = Builder::Impl;

retort_value LayerNorm(void* ctx, retort_value x, retort_param weight, retort_param bias,
                       double eps) {
  Impl& impl = Impl::From(ctx);
  constexpr Op kOp = Op::kLayerNorm;
  if (!impl.CheckValue(kOp, "x", x) || !impl.CheckParam(kOp, "weight", weight)) return {0};
  const int64_t width = impl.WidthOf(x);
  if (!impl.CheckShape(kOp, weight, {width})) return {0};
  if (bias.id != 0) {
    if (!impl.CheckParam(kOp, "bias", bias) || !impl.CheckShape(kOp, bias, {width})) return {0};
  }
  if (!impl.CheckEps(kOp, eps)) return {0};
  Node node{.op = kOp, .in = {Index(x)}, .params = {Index(weight), Index(bias)}, .eps = eps};
  return impl.Add(std::move(node), width);
}

retort_value Slice(void* ctx, retort_value x, uint32_t n_heads, uint32_t begin, uint32_t end) {
  Impl& impl = Impl::From(ctx);
  constexpr Op kOp = Op::kSlice;
  if (!impl.CheckValue(kOp, "x", x)) return {0};
  const int64_t width = impl.WidthOf(x);
  if (n_heads == 0 || width % n_heads != 0) {
    impl.Fail(impl.Here(kOp) + ": x has width " + std::to_string(width) + ", no multiple of " +
              std::to_string(n_heads) + " heads");
    return {0};
  }
  const int64_t head = width / n_heads;
  if (begin >= end || end > head) {
    impl.Fail(impl.Here(kOp) + ": elements " + std::to_string(begin) + " to " +
              std::to_string(end) + " of a head of " + std::to_string(head) +
              "; they must be begin < end <= " + std::to_string(head));
    return {0};
  }
  const int64_t heads = n_heads;
  Node node{.op = kOp, .in = {Index(x)}, .n_heads = heads, .begin = begin, .end = end};
  const int64_t part = node.end - node.begin;
  return impl.Add(std::move(node), heads * part);
}

// An input is one head, repeated for all, where the op that made it says so (a rope or head_norm
// of one head) or where its width is no multiple of the heads.
bool IsOneHead(const Value& value, int64_t n_heads) {
  return n_heads > 1 && (value.one_head || value.width % n_heads != 0);
}

retort_value Concat(void* ctx, const retort_value* in, uint32_t n_in, uint32_t n_heads) {
  constexpr int64_t kMaxWidth = int64_t{1} << 31;
  constexpr Op kOp = Op::kConcat;
  Impl& impl = Impl::From(ctx);
  if (in == nullptr || n_in == 0 || n_in > kMaxConcatInputs || n_heads == 0) {
    impl.Fail(impl.Here(kOp) + ": it has " + std::to_string(in == nullptr ? 0 : n_in) +
              " inputs of " + std::to_string(n_heads) + " heads; 1 to " +
              std::to_string(kMaxConcatInputs) + " inputs and at least 1 head are allowed");
    return {0};
  }
  Node node{.op = kOp, .n_heads = n_heads};
  int64_t head = 0;
  for (uint32_t k = 0; k < n_in; ++k) {
    if (!impl.CheckValue(kOp, ("input " + std::to_string(k)).c_str(), in[k])) return {0};
    const Value& value = impl.graph.values[in[k].id - 1];
    const bool one = IsOneHead(value, n_heads);
    if (one) node.repeats |= uint64_t{1} << k;
    head += one ? value.width : value.width / n_heads;
    node.in.push_back(Index(in[k]));
  }
  if (head > kMaxWidth / n_heads) {
    impl.Fail(impl.Here(kOp) + ": " + std::to_string(n_heads) + " heads of " +
              std::to_string(head) + " elements are wider than " + std::to_string(kMaxWidth));
    return {0};
  }
  return impl.Add(std::move(node), head * n_heads);
}

// x with a weight, for every row; mul takes a weight of one element too, for all.
retort_value WithWeight(Impl& impl, Op op, retort_value x, retort_param weight) {
  const int64_t width = impl.WidthOf(x);
  const Param& param = impl.ParamOf(weight);
  const bool one = op == Op::kMul && param.shape == std::vector<int64_t>{1};
  if (!one && param.shape != std::vector<int64_t>{width}) {
    impl.Fail(impl.Here(op) + ": param \"" + param.name + "\" has shape " + ShapeText(param.shape) +
              "; it must be " + ShapeText({width}) + (op == Op::kMul ? " or [1]" : ""));
    return {0};
  }
  return impl.Add(Node{.op = op, .in = {Index(x)}, .params = {Index(weight)}}, width);
}

retort_value Binary(Impl& impl, Op op, retort_value a, retort_value b) {
  const retort_param weight_a = impl.WeightOf(a), weight_b = impl.WeightOf(b);
  if (weight_a.id != 0 && weight_b.id != 0) {
    impl.Fail(impl.Here(op) + ": a and b are both weights; one must be token rows");
    return {0};
  }
  if (weight_a.id == 0 && !impl.CheckValue(op, "a", a)) return {0};
  if (weight_b.id == 0 && !impl.CheckValue(op, "b", b)) return {0};
  if (weight_b.id != 0) return WithWeight(impl, op, a, weight_b);
  if (weight_a.id != 0) return WithWeight(impl, op, b, weight_a);
  const int64_t wide = impl.WidthOf(a), other = impl.WidthOf(b);
  if (wide != other && !(op == Op::kMul && other == 1)) {
    impl.Fail(impl.Here(op) + ": widths " + std::to_string(wide) + " and " + std::to_string(other) +
              " don't fit together");
    return {0};
  }
  return impl.Add(Node{.op = op, .in = {Index(a), Index(b)}}, wide);
}

retort_value Add(void* ctx, retort_value a, retort_value b) {
  return Binary(Impl::From(ctx), Op::kAdd, a, b);
}
retort_value Mul(void* ctx, retort_value a, retort_value b) {
  return Binary(Impl::From(ctx), Op::kMul, a, b);
}

}  // namespace

void FillRowOps(retort_builder_v1& table) {
  table.layer_norm = LayerNorm;
  table.add = Add;
  table.mul = Mul;
  table.slice = Slice;
  table.concat = Concat;
}

}  // namespace retort::graph
