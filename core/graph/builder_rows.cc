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

}  // namespace

void FillRowOps(retort_builder_v1& table) { table.layer_norm = LayerNorm; }

}  // namespace retort::graph
