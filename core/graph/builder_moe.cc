// The builder's op for layers of experts: see builder_ops.cc for how callbacks answer.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <utility>

#include "core/graph/builder_impl.h"

namespace retort::graph {
namespace {

using Impl = Builder::Impl;
constexpr Op kOp = Op::kMoe;
constexpr uint32_t kKnownFlags = RETORT_MOE_NORM_TOP_K | RETORT_MOE_SIGMOID;

std::string Text(int64_t n) { return std::to_string(n); }

MoeSpec SpecOf(const retort_moe_spec& spec) {
  const int64_t groups = spec.n_groups == 0 ? 1 : spec.n_groups;
  return {.n_experts = spec.n_experts,
          .top_k = spec.top_k,
          .n_groups = groups,
          .top_k_groups = spec.top_k_groups == 0 ? groups : spec.top_k_groups,
          .activation = spec.activation,
          .norm_top_k = (spec.flags & RETORT_MOE_NORM_TOP_K) != 0,
          .sigmoid = (spec.flags & RETORT_MOE_SIGMOID) != 0,
          .scale = spec.scale == 0 ? 1 : spec.scale,
          .aux_coef = spec.aux_coef};
}

// Why the numbers don't fit together, or "".
std::string Mistake(const MoeSpec& spec) {
  if (spec.n_experts < 1) return "n_experts is 0";
  if (spec.top_k < 1 || spec.top_k > spec.n_experts) {
    return "top_k is " + Text(spec.top_k) + "; it must be between 1 and n_experts, " +
           Text(spec.n_experts);
  }
  if (spec.n_groups > spec.n_experts || spec.n_experts % spec.n_groups != 0) {
    return "n_groups " + Text(spec.n_groups) + " doesn't divide n_experts " + Text(spec.n_experts);
  }
  if (spec.top_k_groups > spec.n_groups) {
    return "top_k_groups " + Text(spec.top_k_groups) + " is above n_groups " + Text(spec.n_groups);
  }
  const int64_t open = spec.n_experts / spec.n_groups * spec.top_k_groups;
  if (spec.top_k > open) {
    return "top_k is " + Text(spec.top_k) + ", but the groups of a token hold " + Text(open) +
           " experts";
  }
  if (!std::isfinite(spec.scale)) return "scale isn't finite";
  if (!(spec.aux_coef >= 0) || !std::isfinite(spec.aux_coef)) {
    return "aux_coef must be finite and at least 0";
  }
  return "";
}

// What this host doesn't execute, or "".
std::string Unknown(const retort_moe_spec& spec) {
  if ((spec.flags & ~kKnownFlags) != 0) {
    return "flags " + Text(spec.flags & ~kKnownFlags) + " are unknown";
  }
  if (spec.activation > RETORT_ACTIVATION_SIGMOID) {
    return "activation " + Text(spec.activation) + " is unknown";
  }
  if (spec.n_experts > kMaxExperts) {
    return "n_experts is " + Text(spec.n_experts) + ", limit " + Text(kMaxExperts);
  }
  return "";
}

bool CheckWeights(Impl& impl, const retort_moe_spec& spec, int64_t width) {
  const int64_t n = spec.n_experts;
  if (!impl.CheckParam(kOp, "gate_up", spec.gate_up)) return false;
  if (!impl.CheckParam(kOp, "down", spec.down)) return false;
  if (!impl.CheckShape(kOp, spec.down, {n, width, -1})) return false;
  const int64_t hidden = impl.ParamOf(spec.down).shape[2];
  if (!impl.CheckShape(kOp, spec.gate_up, {n, 2 * hidden, width})) return false;
  if (spec.score_bias.id == 0) return true;
  return impl.CheckParam(kOp, "score_bias", spec.score_bias) &&
         impl.CheckShape(kOp, spec.score_bias, {n});
}

// The load-balancing loss is one over all layers with as many experts.
bool CheckBalance(Impl& impl, const MoeSpec& spec) {
  for (const Node& node : impl.graph.nodes) {
    if (node.op != kOp || node.moe.n_experts != spec.n_experts) continue;
    if (node.moe.aux_coef == spec.aux_coef) continue;
    impl.Fail(impl.Here(kOp) + ": aux_coef differs from that of an earlier layer");
    return false;
  }
  return true;
}

retort_value Moe(void* ctx, retort_value x, retort_value logits, const retort_moe_spec* in) {
  Impl& impl = Impl::From(ctx);
  if (!impl.CheckValue(kOp, "x", x)) return {0};
  if (!impl.CheckValue(kOp, "router_logits", logits)) return {0};
  MoeSpec spec = SpecOf(*in);
  std::string mistake = Unknown(*in);
  impl.unimplemented = impl.unimplemented || !mistake.empty();
  if (mistake.empty()) mistake = Mistake(spec);
  if (mistake.empty() && impl.WidthOf(logits) != spec.n_experts) {
    mistake = "router_logits have width " + Text(impl.WidthOf(logits)) + ", not n_experts " +
              Text(spec.n_experts);
  }
  if (!mistake.empty()) {
    impl.Fail(impl.Here(kOp) + ": " + mistake);
    return {0};
  }
  const int64_t width = impl.WidthOf(x);
  if (!CheckWeights(impl, *in, width) || !CheckBalance(impl, spec)) return {0};
  spec.hidden = impl.ParamOf(in->down).shape[2];
  if (in->score_bias.id != 0) {  // it only chooses: no gradient reaches it
    impl.graph.params[in->score_bias.id - 1].flags |= RETORT_PARAM_FROZEN;
  }
  Node node{.op = kOp,
            .in = {Index(x), Index(logits)},
            .params = {Index(in->gate_up), Index(in->down), Index(in->score_bias)},
            .moe = spec};
  return impl.Add(std::move(node), width);
}

}  // namespace

void FillMoe(retort_builder_v1& table) { table.moe = Moe; }

}  // namespace retort::graph
