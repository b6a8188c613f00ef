// Tensor names of GGUF and where llama's rows lie.
// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "core/model/gguf_view.h"

namespace retort::model {
namespace {

struct NamePair {
  std::string_view gguf, hf;
};

constexpr std::array<NamePair, 3> kModel = {
    {{"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}}};

constexpr std::array<NamePair, 11> kBlock = {{{"attn_norm", "input_layernorm"},
                                              {"attn_q", "self_attn.q_proj"},
                                              {"attn_k", "self_attn.k_proj"},
                                              {"attn_v", "self_attn.v_proj"},
                                              {"attn_output", "self_attn.o_proj"},
                                              {"attn_q_norm", "self_attn.q_norm"},
                                              {"attn_k_norm", "self_attn.k_norm"},
                                              {"ffn_norm", "post_attention_layernorm"},
                                              {"ffn_gate", "mlp.gate_proj"},
                                              {"ffn_up", "mlp.up_proj"},
                                              {"ffn_down", "mlp.down_proj"}}};

template <size_t N>
std::string_view Look(const std::array<NamePair, N>& table, std::string_view name) {
  for (const NamePair& pair : table) {
    if (pair.gguf == name) return pair.hf;
  }
  return {};
}

}  // namespace

std::string HfName(std::string_view name) {
  const size_t dot = name.rfind('.');
  if (dot == name.npos) return std::string(name);
  const std::string_view stem = name.substr(0, dot), kind = name.substr(dot);
  if (kind != ".weight" && kind != ".bias") return std::string(name);
  if (!stem.starts_with("blk.")) {
    const std::string_view hf = Look(kModel, stem);
    return hf.empty() ? std::string(name) : std::string(hf).append(kind);
  }
  const std::string_view rest = stem.substr(4);
  const size_t end = rest.find('.');
  const std::string_view number = rest.substr(0, end);
  const std::string_view hf = end == rest.npos ? "" : Look(kBlock, rest.substr(end + 1));
  if (hf.empty() || number.find_first_not_of("0123456789") != number.npos) return std::string(name);
  return std::string("model.layers.").append(number).append(".").append(hf).append(kind);
}

int64_t PermutedHeads(const io::Gguf& gguf, std::string_view hf_name) {
  if (gguf.String("general.architecture").value_or("") != "llama") return 1;
  const bool q = hf_name.find(".self_attn.q_proj.") != hf_name.npos;
  const bool k = hf_name.find(".self_attn.k_proj.") != hf_name.npos;
  if (!q && !k) return 1;
  const int64_t heads = gguf.Int("llama.attention.head_count").value_or(1);
  return q ? heads : gguf.Int("llama.attention.head_count_kv").value_or(heads);
}

}  // namespace retort::model
