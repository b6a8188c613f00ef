// The op callbacks of the builder table: each checks its arguments and infers its width. Out of
// memory they throw; the host's wrapper around a family stops that before it reaches the plugin.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <string_view>
#include <utility>

#include "core/graph/builder_impl.h"
#include "core/graph/rope.h"

namespace retort::graph {

std::string Builder::Impl::Here(Op op) const { return Here(std::string(OpName(op))); }

std::string Builder::Impl::Here(const std::string& what) const {
  std::string text = "node " + std::to_string(graph.nodes.size()) + " (" + what;
  if (graph.n_blocks > 0) text += ", block " + std::to_string(graph.n_blocks - 1);
  return text + ")";
}

bool Builder::Impl::CheckValue(Op op, const char* name, retort_value v) {
  if (HasRows(v)) return true;
  if (HasValue(v)) {
    const int32_t param = graph.values[v.id - 1].param;
    Fail(Here(op) + ": " + name + " is the weight \"" +
         graph.params[static_cast<size_t>(param)].name +
         "\"; what value_of gives is taken by custom, add and mul only");
    unimplemented = true;
    return false;
  }
  if (v.id != 0 || errors.empty()) {
    Fail(Here(op) + ": " + name + " is not a value of this graph");
  }
  return false;
}

bool Builder::Impl::CheckParam(Op op, const char* name, retort_param p) {
  if (HasParam(p)) return true;
  if (p.id != 0 || errors.empty()) {
    Fail(Here(op) + ": " + name + " is not a param of this graph");
  }
  return false;
}

bool Builder::Impl::CheckShape(Op op, retort_param p, std::vector<int64_t> want) {
  const Param& param = ParamOf(p);
  bool same = param.shape.size() == want.size();
  for (size_t i = 0; same && i < want.size(); ++i) {
    same = want[i] < 0 || want[i] == param.shape[i];
  }
  if (!same) {
    Fail(Here(op) + ": param \"" + param.name + "\" has shape " + ShapeText(param.shape) +
         "; it must be " + ShapeText(want));
  }
  return same;
}

bool Builder::Impl::CheckEps(Op op, double eps) {
  if (eps >= 0 && std::isfinite(eps)) return true;
  Fail(Here(op) + ": eps must be finite and at least 0");
  return false;
}

retort_value Builder::Impl::Add(Node node, int64_t out_width) {
  node.block = graph.n_blocks - 1;
  node.out = static_cast<int32_t>(graph.values.size());
  graph.values.push_back(
      {.width = out_width, .producer = static_cast<int32_t>(graph.nodes.size())});
  graph.nodes.push_back(std::move(node));
  return {static_cast<uint32_t>(graph.values.size())};
}

namespace {

using Impl = Builder::Impl;

bool KnownActivation(Impl& impl, Op op, uint32_t kind) {
  if (kind <= RETORT_ACTIVATION_SIGMOID) return true;
  impl.Fail(impl.Here(op) + ": activation " + std::to_string(kind) + " is unknown");
  impl.unimplemented = true;
  return false;
}

retort_value Embed(void* ctx, retort_param table, double scale) {
  Impl& impl = Impl::From(ctx);
  if (!impl.CheckParam(Op::kEmbed, "table", table)) return {0};
  if (!impl.CheckShape(Op::kEmbed, table, {-1, -1})) return {0};
  Node node{.op = Op::kEmbed, .params = {Index(table)}, .scale = scale};
  return impl.Add(std::move(node), impl.ParamOf(table).shape[1]);
}

retort_value Linear(void* ctx, retort_value x, retort_param weight, retort_param bias) {
  Impl& impl = Impl::From(ctx);
  if (!impl.CheckValue(Op::kLinear, "x", x)) return {0};
  if (!impl.CheckParam(Op::kLinear, "weight", weight)) return {0};
  if (!impl.CheckShape(Op::kLinear, weight, {-1, impl.WidthOf(x)})) return {0};
  const int64_t width = impl.ParamOf(weight).shape[0];
  if (bias.id != 0) {
    if (!impl.CheckParam(Op::kLinear, "bias", bias)) return {0};
    if (!impl.CheckShape(Op::kLinear, bias, {width})) return {0};
  }
  Node node{.op = Op::kLinear, .in = {Index(x)}, .params = {Index(weight), Index(bias)}};
  return impl.Add(std::move(node), width);
}

retort_value RmsNorm(void* ctx, retort_value x, retort_param weight, double eps,
                     double weight_offset) {
  Impl& impl = Impl::From(ctx);
  if (!impl.CheckValue(Op::kRmsNorm, "x", x)) return {0};
  if (!impl.CheckParam(Op::kRmsNorm, "weight", weight)) return {0};
  const int64_t width = impl.WidthOf(x);
  if (!impl.CheckShape(Op::kRmsNorm, weight, {width})) return {0};
  if (!impl.CheckEps(Op::kRmsNorm, eps)) return {0};
  Node node{.op = Op::kRmsNorm,
            .in = {Index(x)},
            .params = {Index(weight)},
            .eps = eps,
            .weight_offset = weight_offset};
  return impl.Add(std::move(node), width);
}

retort_value HeadNorm(void* ctx, retort_value x, retort_param weight, uint32_t head_dim, double eps,
                      double weight_offset) {
  Impl& impl = Impl::From(ctx);
  if (!impl.CheckValue(Op::kHeadNorm, "x", x)) return {0};
  if (!impl.CheckParam(Op::kHeadNorm, "weight", weight)) return {0};
  if (!impl.CheckShape(Op::kHeadNorm, weight, {head_dim})) return {0};
  if (!impl.CheckEps(Op::kHeadNorm, eps)) return {0};
  const int64_t width = impl.WidthOf(x);
  if (head_dim == 0 || width % head_dim != 0) {
    impl.Fail(impl.Here(Op::kHeadNorm) + ": width " + std::to_string(width) +
              " is no multiple of head_dim " + std::to_string(head_dim));
    return {0};
  }
  Node node{.op = Op::kHeadNorm,
            .in = {Index(x)},
            .params = {Index(weight)},
            .eps = eps,
            .weight_offset = weight_offset,
            .head_dim = head_dim};
  const retort_value y = impl.Add(std::move(node), width);
  impl.graph.values.back().one_head = width == head_dim;
  return y;
}

retort_value Rope(void* ctx, retort_value x, uint32_t n_heads, const retort_rope_spec* spec) {
  Impl& impl = Impl::From(ctx);
  if (!impl.CheckValue(Op::kRope, "x", x)) return {0};
  const int64_t width = impl.WidthOf(x);
  const int64_t head_dim = n_heads == 0 || width % n_heads != 0 ? 0 : width / n_heads;
  const int64_t rotary_dim = spec->rotary_dim == 0 ? head_dim : spec->rotary_dim;
  if (head_dim == 0 || rotary_dim > head_dim) {
    impl.Fail(impl.Here(Op::kRope) + ": width " + std::to_string(width) + " in " +
              std::to_string(n_heads) + " heads doesn't hold rotary_dim " +
              std::to_string(rotary_dim));
    return {0};
  }
  if (spec->layout != RETORT_ROPE_HALVES && spec->layout != RETORT_ROPE_INTERLEAVED) {
    impl.Fail(impl.Here(Op::kRope) + ": layout " + std::to_string(spec->layout) + " is unknown");
    return {0};
  }
  RopeSpec rope{.layout = spec->layout,
                .rotary_dim = rotary_dim,
                .max_positions = spec->max_positions,
                .theta = spec->theta};
  if (spec->scaling_json.ptr != nullptr) {
    rope.scaling_json.assign(spec->scaling_json.ptr, spec->scaling_json.len);
  }
  const auto table = MakeRopeTable(rope);
  if (!table.ok()) {
    impl.Fail(impl.Here(Op::kRope) + ": " + table.status().message());
    impl.unimplemented = impl.unimplemented || table.status().code() == Code::kUnimplemented;
    return {0};
  }
  Node node{.op = Op::kRope, .in = {Index(x)}, .n_heads = n_heads, .rope = std::move(rope)};
  const retort_value y = impl.Add(std::move(node), width);
  impl.graph.values.back().one_head = n_heads == 1;
  return y;
}

// Why the spec and widths don't fit together, or "".
std::string AttentionMistake(const retort_attention_spec& spec, int64_t q, int64_t k, int64_t v) {
  const int64_t heads = spec.n_heads, kv_heads = spec.n_kv_heads, dim = spec.head_dim;
  if (heads == 0 || kv_heads == 0 || dim == 0 || heads % kv_heads != 0) {
    return "n_heads " + std::to_string(heads) + " must be a multiple of n_kv_heads " +
           std::to_string(kv_heads) + ", and head_dim above 0";
  }
  if (q != heads * dim) return "q has width " + std::to_string(q) + ", not n_heads * head_dim";
  if (k != kv_heads * dim || v != kv_heads * dim) {
    return "k and v have widths " + std::to_string(k) + " and " + std::to_string(v) +
           ", not n_kv_heads * head_dim";
  }
  if (!(spec.soft_cap >= 0) || !std::isfinite(spec.scale) || spec.scale < 0) {
    return "scale and soft_cap must be finite and at least 0";
  }
  return "";
}

retort_value Attention(void* ctx, retort_value q, retort_value k, retort_value v, uint32_t layer,
                       const retort_attention_spec* spec) {
  Impl& impl = Impl::From(ctx);
  constexpr Op kOp = Op::kAttention;
  if (!impl.CheckValue(kOp, "q", q) || !impl.CheckValue(kOp, "k", k) ||
      !impl.CheckValue(kOp, "v", v)) {
    return {0};
  }
  std::string mistake = AttentionMistake(*spec, impl.WidthOf(q), impl.WidthOf(k), impl.WidthOf(v));
  if (mistake.empty() && layer != static_cast<uint32_t>(impl.graph.n_layers)) {
    mistake = "layer " + std::to_string(layer) + " where " + std::to_string(impl.graph.n_layers) +
              " was due; layers count from 0";
  }
  if (mistake.empty() && spec->value_dim != 0 && spec->value_dim != spec->head_dim) {
    mistake = "value_dim other than head_dim is not supported";
    impl.unimplemented = true;
  }
  if (!mistake.empty()) {
    impl.Fail(impl.Here(kOp) + ": " + mistake);
    return {0};
  }
  const double usual = 1 / std::sqrt(static_cast<double>(spec->head_dim));
  Node node{.op = kOp,
            .in = {Index(q), Index(k), Index(v)},
            .layer = impl.graph.n_layers++,
            .attention = {.n_heads = spec->n_heads,
                          .n_kv_heads = spec->n_kv_heads,
                          .head_dim = spec->head_dim,
                          .window = spec->window,
                          .scale = spec->scale == 0 ? usual : spec->scale,
                          .soft_cap = spec->soft_cap}};
  return impl.Add(std::move(node), impl.WidthOf(q));
}

retort_value Activation(void* ctx, retort_value x, uint32_t kind) {
  Impl& impl = Impl::From(ctx);
  if (!impl.CheckValue(Op::kActivation, "x", x)) return {0};
  if (!KnownActivation(impl, Op::kActivation, kind)) return {0};
  Node node{.op = Op::kActivation, .in = {Index(x)}, .activation = kind};
  return impl.Add(std::move(node), impl.WidthOf(x));
}

retort_value Gated(void* ctx, retort_value gate, retort_value up, uint32_t kind) {
  Impl& impl = Impl::From(ctx);
  if (!impl.CheckValue(Op::kGated, "gate", gate)) return {0};
  if (!impl.CheckValue(Op::kGated, "up", up)) return {0};
  if (!KnownActivation(impl, Op::kGated, kind)) return {0};
  if (impl.WidthOf(gate) != impl.WidthOf(up)) {
    impl.Fail(impl.Here(Op::kGated) + ": gate and up differ in width");
    return {0};
  }
  Node node{.op = Op::kGated, .in = {Index(gate), Index(up)}, .activation = kind};
  return impl.Add(std::move(node), impl.WidthOf(gate));
}

retort_value Scale(void* ctx, retort_value x, double factor) {
  Impl& impl = Impl::From(ctx);
  if (!impl.CheckValue(Op::kScale, "x", x)) return {0};
  if (!std::isfinite(factor)) {
    impl.Fail(impl.Here(Op::kScale) + ": the factor isn't finite");
    return {0};
  }
  return impl.Add(Node{.op = Op::kScale, .in = {Index(x)}, .scale = factor}, impl.WidthOf(x));
}

}  // namespace

void FillOps(retort_builder_v1& table) {
  table.embed = Embed;
  table.linear = Linear;
  table.rms_norm = RmsNorm;
  table.head_norm = HeadNorm;
  table.rope = Rope;
  table.attention = Attention;
  table.activation = Activation;
  table.gated = Gated;
  table.scale = Scale;
}

}  // namespace retort::graph
