// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>

#include "core/graph/builder_impl.h"
#include "retort/abi/draft/optimizer.h"

namespace retort::graph {

const char* OpName(Op op) {
  switch (op) {
    case Op::kEmbed: return "embed";
    case Op::kLinear: return "linear";
    case Op::kRmsNorm: return "rms_norm";
    case Op::kLayerNorm: return "layer_norm";
    case Op::kHeadNorm: return "head_norm";
    case Op::kRope: return "rope";
    case Op::kAttention: return "attention";
    case Op::kActivation: return "activation";
    case Op::kGated: return "gated";
    case Op::kAdd: return "add";
    case Op::kMul: return "mul";
    case Op::kScale: return "scale";
    case Op::kSlice: return "slice";
    case Op::kConcat: return "concat";
    case Op::kMoe: return "moe";
    case Op::kCustom: return "custom";
  }
  return "?";
}

int64_t Graph::n_params() const {
  int64_t n = 0;
  for (const Param& param : params) n += param.numel();
  return n;
}

namespace {

std::string Number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

const char* ActivationName(uint32_t kind) {
  switch (kind) {
    case RETORT_ACTIVATION_SILU: return "silu";
    case RETORT_ACTIVATION_GELU: return "gelu";
    case RETORT_ACTIVATION_GELU_TANH: return "gelu_tanh";
    case RETORT_ACTIVATION_RELU2: return "relu2";
    case RETORT_ACTIVATION_SIGMOID: return "sigmoid";
    default: return "?";
  }
}

std::string RopeText(const RopeSpec& rope) {
  std::string text = "theta " + Number(rope.theta) + ", dim " + std::to_string(rope.rotary_dim);
  if (rope.layout == RETORT_ROPE_INTERLEAVED) text += ", interleaved";
  if (!rope.scaling_json.empty()) text += ", scaling " + rope.scaling_json;
  return text;
}

std::string AttentionText(const Node& node) {
  const AttentionSpec& a = node.attention;
  std::string text = "layer " + std::to_string(node.layer) + ", " + std::to_string(a.n_heads) +
                     " heads / " + std::to_string(a.n_kv_heads) + " of " +
                     std::to_string(a.head_dim) + ", scale " + Number(a.scale);
  if (a.window > 0) text += ", window " + std::to_string(a.window);
  if (a.soft_cap > 0) text += ", soft cap " + Number(a.soft_cap);
  return text;
}

std::string SliceText(const Node& node) {
  return "elements " + std::to_string(node.begin) + " to " + std::to_string(node.end) + " of " +
         std::to_string(node.n_heads) + (node.n_heads == 1 ? " head" : " heads");
}

std::string ConcatText(const Node& node) {
  if (node.n_heads == 1) return "";
  std::string text = std::to_string(node.n_heads) + " heads";
  for (size_t k = 0; k < node.in.size(); ++k) {
    if (node.Repeats(k)) text += ", %" + std::to_string(node.in[k]) + " in each";
  }
  return text;
}

std::string MoeText(const MoeSpec& moe) {
  std::string text = std::to_string(moe.top_k) + " of " + std::to_string(moe.n_experts) +
                     " experts of " + std::to_string(moe.hidden) + ", " +
                     ActivationName(moe.activation) +
                     (moe.sigmoid ? ", sigmoid scores" : ", softmax scores");
  if (moe.norm_top_k) text += " normed";
  if (moe.top_k_groups < moe.n_groups) {
    text += ", from " + std::to_string(moe.top_k_groups) + " of " + std::to_string(moe.n_groups) +
            " groups";
  }
  if (moe.scale != 1) text += ", scale " + Number(moe.scale);
  if (moe.aux_coef != 0) text += ", balance " + Number(moe.aux_coef);
  return text;
}

std::string Attributes(const Node& node) {
  switch (node.op) {
    case Op::kEmbed:
    case Op::kScale: return node.scale == 1 ? "" : "scale " + Number(node.scale);
    case Op::kRmsNorm:
    case Op::kLayerNorm:
    case Op::kHeadNorm:
      return "eps " + Number(node.eps) +
             (node.weight_offset == 0 ? "" : ", offset " + Number(node.weight_offset));
    case Op::kRope: return RopeText(node.rope);
    case Op::kAttention: return AttentionText(node);
    case Op::kSlice: return SliceText(node);
    case Op::kConcat: return ConcatText(node);
    case Op::kMoe: return MoeText(node.moe);
    case Op::kActivation:
    case Op::kGated: return ActivationName(node.activation);
    default: return "";
  }
}

std::string SourceText(const Param& param) {
  constexpr size_t kShown = 4;  // of experts there are hundreds
  std::string text;
  for (const Source& source : param.sources) {
    if (source.checkpoint_name == param.name && param.sources.size() == 1) return "";
    if (&source - param.sources.data() == kShown) {
      return text + " + ... (" + std::to_string(param.sources.size()) + " tensors)";
    }
    text += (text.empty() ? " <- " : " + ") + source.checkpoint_name;
    if (source.row_end > 0) {
      text += "[" + std::to_string(source.row_begin) + ":" + std::to_string(source.row_end) + "]";
    }
    if (source.transpose) text += "^T";
  }
  return text;
}

// Op id, attributes, the weights among the inputs by name, and the outputs after the first.
std::string CustomText(const Graph& graph, const Node& node) {
  const CustomOp& op = graph.customs[static_cast<size_t>(node.custom)];
  std::string text = op.id + " " + op.attributes;
  for (int32_t v : node.in) {
    const int32_t p = graph.values[static_cast<size_t>(v)].param;
    if (p < 0) continue;
    const Param& param = graph.params[static_cast<size_t>(p)];
    text += "  " + param.name + " " + ShapeText(param.shape) + SourceText(param);
  }
  for (int32_t k = 1; k < node.n_out; ++k) {
    const auto v = static_cast<size_t>(node.out + k);
    text += "  %" + std::to_string(v) + " [T, " + std::to_string(graph.values[v].width) + "]";
  }
  return text;
}

std::string NodeText(const Graph& graph, const Node& node) {
  std::string inputs;
  for (int32_t v : node.in) {
    if (graph.values[static_cast<size_t>(v)].param < 0) inputs += " %" + std::to_string(v);
  }
  char head[32];
  std::snprintf(head, sizeof head, "  %%%-4d %-10s", node.out, OpName(node.op));
  inputs.resize(std::max<size_t>(inputs.size(), 16), ' ');
  std::string text = head + inputs + " [T, " +
                     std::to_string(graph.values[static_cast<size_t>(node.out)].width) + "]";
  const std::string attributes =
      node.op == Op::kCustom ? CustomText(graph, node) : Attributes(node);
  if (!attributes.empty()) text += "  " + attributes;
  for (int32_t p : node.params) {
    if (p < 0) continue;
    const Param& param = graph.params[static_cast<size_t>(p)];
    text += "  " + param.name + " " + ShapeText(param.shape) + SourceText(param);
  }
  return text + "\n";
}

}  // namespace

std::string NodeName(const Graph& graph, size_t index) {
  const Node& node = graph.nodes[index];
  std::string text = "node " + std::to_string(index) + " (" + OpName(node.op);
  if (node.op == Op::kCustom) text += " " + graph.customs[static_cast<size_t>(node.custom)].id;
  if (node.block >= 0) text += ", block " + std::to_string(node.block);
  return text + ")";
}

std::string Print(const Graph& graph) {
  std::string text = "family " + graph.family + "\n";
  int32_t block = -1;
  for (const Node& node : graph.nodes) {
    if (node.block != block) {
      block = node.block;
      text += "block " + std::to_string(block) + "\n";
    }
    text += NodeText(graph, node);
  }
  const Param& head = graph.params[static_cast<size_t>(graph.head)];
  text += "head of %" + std::to_string(graph.hidden) + ": ";
  text += graph.has_lm_head ? head.name + " " + ShapeText(head.shape) : "none";
  if (graph.has_lm_head && (head.roles & RETORT_ROLE_EMBEDDING) != 0) {
    text += ", tied to the embedding";
  }
  if (graph.logit_scale != 1) text += ", logit scale " + Number(graph.logit_scale);
  if (graph.logit_soft_cap > 0) text += ", soft cap " + Number(graph.logit_soft_cap);
  if (graph.value_head >= 0) {
    const Param& value = graph.params[static_cast<size_t>(graph.value_head)];
    text += "\nvalue head: " + value.name + " " + ShapeText(value.shape);
  }
  text += "\n" + std::to_string(graph.nodes.size()) + " nodes, " + std::to_string(graph.n_blocks) +
          " blocks, " + std::to_string(graph.n_layers) + " attention layers, " +
          std::to_string(graph.params.size()) + " params, " + std::to_string(graph.n_params()) +
          " elements\n";
  return text;
}

}  // namespace retort::graph
