// SPDX-License-Identifier: Apache-2.0
#include "core/model/gguf_facts.h"

#include <cmath>

namespace retort::model {
namespace {

using graph::Node;
using graph::Op;

// Sets a fact at its first sight and compares it at every other one.
class Reader {
 public:
  Reader(const graph::Graph& graph, const GgufArch& arch, const std::string& what)
      : graph_(graph), arch_(arch), what_(what) {}

  Result<GgufFacts> Read() {
    facts_.layers = graph_.n_layers;
    facts_.width = graph_.width();
    facts_.vocab = graph_.vocab();
    facts_.logit_cap = graph_.logit_soft_cap;
    facts_.windowed.assign(static_cast<size_t>(graph_.n_layers), 0);
    int64_t n_moe = 0;
    for (const Node& node : graph_.nodes) {
      if (node.op == Op::kAttention) RETORT_RETURN_IF_ERROR(Attention(node));
      n_moe += node.op == Op::kMoe ? 1 : 0;
    }
    const bool wants_experts = arch_.experts != GgufExperts::kNone;
    if (n_moe != (wants_experts ? facts_.layers : 0)) {
      return Refuse(wants_experts ? "layers without experts" : "experts");
    }
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      RETORT_RETURN_IF_ERROR(Visit(graph_.nodes[i], i));
    }
    if (graph_.logit_scale != 1) return Refuse("a scale of the logits");
    if (facts_.layers == 0) return Refuse("a model without attention");
    return std::move(facts_);
  }

 private:
  Status Refuse(const std::string& thing) const {
    return Unimplemented(what_ + ": GGUF's architecture " + std::string(arch_.gguf) +
                         " has no place for " + thing + "; keep the model as an HF folder");
  }
  template <class T>
  Status Same(T* fact, T value, bool first, const char* name) const {
    if (!first && *fact != value) return Refuse(std::string("layers that differ in ") + name);
    *fact = value;
    return OkStatus();
  }

  Status Visit(const Node& node, size_t index) {
    switch (node.op) {
      case Op::kEmbed: return Embed(node);
      case Op::kRmsNorm:
      case Op::kHeadNorm: return Norm(node);
      case Op::kRope: return Rope(node);
      case Op::kGated: return Gated(node);
      case Op::kMoe: return Experts(node);
      case Op::kLinear:
      case Op::kAttention:
      case Op::kAdd: return OkStatus();
      case Op::kMul:
      case Op::kActivation:  // the shared expert's gate
        if (arch_.experts == GgufExperts::kQwen) return OkStatus();
        break;
      default: break;
    }
    return Refuse(graph::NodeName(graph_, index));
  }

  Status Embed(const Node& node) {
    facts_.tied = graph_.head == node.params[0];
    const double scale =
        arch_.block == GgufBlock::kGemma ? std::sqrt(static_cast<double>(facts_.width)) : 1;
    if (std::abs(node.scale - scale) > 1e-6 * scale) {
      return Refuse("embeddings times " + std::to_string(node.scale));
    }
    return OkStatus();
  }

  Status Norm(const Node& node) {
    if (node.weight_offset != (arch_.norm_plus_one ? 1 : 0)) {
      return Refuse("norms with an offset of " + std::to_string(node.weight_offset));
    }
    const bool first = n_norms_++ == 0;
    return Same(&facts_.eps, node.eps, first, "rms_norm_eps");
  }

  Status Attention(const Node& node) {
    const graph::AttentionSpec& a = node.attention;
    const bool first = n_attention_++ == 0;
    RETORT_RETURN_IF_ERROR(Same(&facts_.heads, a.n_heads, first, "num_attention_heads"));
    RETORT_RETURN_IF_ERROR(Same(&facts_.kv_heads, a.n_kv_heads, first, "num_key_value_heads"));
    RETORT_RETURN_IF_ERROR(Same(&facts_.head_dim, a.head_dim, first, "head_dim"));
    RETORT_RETURN_IF_ERROR(Same(&facts_.attention_scale, a.scale, first, "the scale of scores"));
    RETORT_RETURN_IF_ERROR(Same(&facts_.attention_cap, a.soft_cap, first, "the cap of scores"));
    if (a.window == 0) return OkStatus();
    RETORT_RETURN_IF_ERROR(
        Same(&facts_.window, a.window, facts_.window == 0, "the width of their windows"));
    facts_.windowed[static_cast<size_t>(node.layer)] = 1;
    return OkStatus();
  }

  // Layers are counted by the attention nodes passed: a rope belongs to the next one.
  Status Rope(const Node& node) {
    const graph::RopeSpec& rope = node.rope;
    if (rope.layout != RETORT_ROPE_HALVES) return Refuse("interleaved rotary pairs");
    const size_t layer = static_cast<size_t>(node.block < 0 ? 0 : node.block);
    const bool windowed = layer < facts_.windowed.size() && facts_.windowed[layer] != 0;
    const bool own = windowed && arch_.model_type == "gemma3_text";
    const bool first = n_ropes_++ == 0;
    RETORT_RETURN_IF_ERROR(Same(&facts_.rotary_dim, rope.rotary_dim, first, "rotated dimensions"));
    RETORT_RETURN_IF_ERROR(
        Same(&facts_.context, rope.max_positions, first, "max_position_embeddings"));
    if (own) {
      if (!rope.scaling_json.empty()) return Refuse("rope scaling in layers with a window");
      return Same(&facts_.window_theta, rope.theta, facts_.window_theta == 0, "rope_theta");
    }
    const bool first_full = facts_.theta == 0;
    RETORT_RETURN_IF_ERROR(Same(&facts_.theta, rope.theta, first_full, "rope_theta"));
    return Same(&facts_.scaling, rope.scaling_json, first_full, "rope_scaling");
  }

  Status Activation(uint32_t activation) const {
    const uint32_t wanted =
        arch_.activation == "silu" ? RETORT_ACTIVATION_SILU : RETORT_ACTIVATION_GELU_TANH;
    if (activation == wanted) return OkStatus();
    return Refuse("another activation than " + std::string(arch_.activation));
  }

  Status Gated(const Node& node) {
    RETORT_RETURN_IF_ERROR(Activation(node.activation));
    const int64_t width = graph_.values[static_cast<size_t>(node.out)].width;
    if (arch_.experts == GgufExperts::kQwen) {
      return Same(&facts_.experts.shared_width, width, facts_.experts.shared_width == 0,
                  "shared_expert_intermediate_size");
    }
    return Same(&facts_.mlp_width, width, facts_.mlp_width == 0, "intermediate_size");
  }

  Status Experts(const Node& node) {
    const graph::MoeSpec& moe = node.moe;
    RETORT_RETURN_IF_ERROR(Activation(moe.activation));
    if (moe.sigmoid || moe.scale != 1 || moe.n_groups != moe.top_k_groups ||
        (node.params.size() > 2 && node.params[2] >= 0)) {
      return Refuse("routing by sigmoid, scales, biases or groups");
    }
    const bool first = n_moe_++ == 0;
    RETORT_RETURN_IF_ERROR(Same(&facts_.experts.count, moe.n_experts, first, "num_experts"));
    RETORT_RETURN_IF_ERROR(Same(&facts_.experts.used, moe.top_k, first, "num_experts_per_tok"));
    RETORT_RETURN_IF_ERROR(Same(&facts_.experts.width, moe.hidden, first, "moe_intermediate_size"));
    return Same(&facts_.experts.norm_top_k, moe.norm_top_k, first, "norm_topk_prob");
  }

  const graph::Graph& graph_;
  const GgufArch& arch_;
  const std::string& what_;
  GgufFacts facts_;
  int64_t n_norms_ = 0, n_attention_ = 0, n_ropes_ = 0, n_moe_ = 0;
};

}  // namespace

Result<GgufFacts> GgufFactsOf(const graph::Graph& graph, const GgufArch& arch,
                              const std::string& what) {
  return Reader(graph, arch, what).Read();
}

}  // namespace retort::model
