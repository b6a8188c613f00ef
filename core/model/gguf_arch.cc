// SPDX-License-Identifier: Apache-2.0
#include "core/model/gguf_arch.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace retort::model {
namespace {

constexpr std::array<GgufArch, 11> kArchs = {{
    {.gguf = "llama",
     .model_type = "llama",
     .class_name = "LlamaForCausalLM",
     .activation = "silu",
     .permuted = true},
    {.gguf = "llama",
     .model_type = "mistral",
     .class_name = "MistralForCausalLM",
     .activation = "silu",
     .permuted = true},
    {.gguf = "llama",
     .model_type = "mixtral",
     .class_name = "MixtralForCausalLM",
     .activation = "silu",
     .experts = GgufExperts::kMixtral,
     .permuted = true},
    {.gguf = "qwen2",
     .model_type = "qwen2",
     .class_name = "Qwen2ForCausalLM",
     .activation = "silu",
     .qkv_bias = true},
    {.gguf = "qwen3",
     .model_type = "qwen3",
     .class_name = "Qwen3ForCausalLM",
     .activation = "silu"},
    {.gguf = "qwen2moe",
     .model_type = "qwen2_moe",
     .class_name = "Qwen2MoeForCausalLM",
     .activation = "silu",
     .experts = GgufExperts::kQwen,
     .head = GgufHead::kAlways,
     .qkv_bias = true},
    {.gguf = "qwen3moe",
     .model_type = "qwen3_moe",
     .class_name = "Qwen3MoeForCausalLM",
     .activation = "silu",
     .experts = GgufExperts::kQwen},
    {.gguf = "gemma2",
     .model_type = "gemma2",
     .class_name = "Gemma2ForCausalLM",
     .activation = "gelu_pytorch_tanh",
     .block = GgufBlock::kGemma,
     .head = GgufHead::kNever,
     .norm_plus_one = true,
     .has_window = true},
    {.gguf = "gemma3",
     .model_type = "gemma3_text",
     .class_name = "Gemma3ForCausalLM",
     .activation = "gelu_pytorch_tanh",
     .block = GgufBlock::kGemma,
     .norm_plus_one = true,
     .has_window = true},
    {.gguf = "phi3",
     .model_type = "phi3",
     .class_name = "Phi3ForCausalLM",
     .activation = "silu",
     .block = GgufBlock::kPhi3},
    {.gguf = "olmo2",
     .model_type = "olmo2",
     .class_name = "Olmo2ForCausalLM",
     .activation = "silu",
     .block = GgufBlock::kOlmo2,
     .head = GgufHead::kAlways},
}};

struct NamePair {
  std::string_view gguf, hf;
};

constexpr std::array<NamePair, 3> kModel = {
    {{"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}}};

// Of every architecture; those below come first.
constexpr std::array<NamePair, 11> kPlain = {{{"attn_norm", "input_layernorm"},
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
constexpr std::array<NamePair, 3> kGemma = {{{"post_attention_norm", "post_attention_layernorm"},
                                             {"ffn_norm", "pre_feedforward_layernorm"},
                                             {"post_ffw_norm", "post_feedforward_layernorm"}}};
constexpr std::array<NamePair, 2> kOlmo2 = {{{"post_attention_norm", "post_attention_layernorm"},
                                             {"post_ffw_norm", "post_feedforward_layernorm"}}};
constexpr std::array<NamePair, 2> kPhi3 = {
    {{"attn_qkv", "self_attn.qkv_proj"}, {"ffn_up", "mlp.gate_up_proj"}}};
constexpr std::array<NamePair, 8> kQwenExperts = {
    {{"ffn_gate_inp", "mlp.gate"},
     {"ffn_gate_exps", "mlp.experts.{}.gate_proj"},
     {"ffn_up_exps", "mlp.experts.{}.up_proj"},
     {"ffn_down_exps", "mlp.experts.{}.down_proj"},
     {"ffn_gate_inp_shexp", "mlp.shared_expert_gate"},
     {"ffn_gate_shexp", "mlp.shared_expert.gate_proj"},
     {"ffn_up_shexp", "mlp.shared_expert.up_proj"},
     {"ffn_down_shexp", "mlp.shared_expert.down_proj"}}};
constexpr std::array<NamePair, 4> kMixtralExperts = {
    {{"ffn_gate_inp", "block_sparse_moe.gate"},
     {"ffn_gate_exps", "block_sparse_moe.experts.{}.w1"},
     {"ffn_up_exps", "block_sparse_moe.experts.{}.w3"},
     {"ffn_down_exps", "block_sparse_moe.experts.{}.w2"}}};

std::array<std::span<const NamePair>, 3> BlockTables(const GgufArch& arch) {
  std::array<std::span<const NamePair>, 3> tables = {{{}, {}, kPlain}};
  if (arch.block == GgufBlock::kGemma) tables[0] = kGemma;
  if (arch.block == GgufBlock::kOlmo2) tables[0] = kOlmo2;
  if (arch.block == GgufBlock::kPhi3) tables[0] = kPhi3;
  if (arch.experts == GgufExperts::kQwen) tables[1] = kQwenExperts;
  if (arch.experts == GgufExperts::kMixtral) tables[1] = kMixtralExperts;
  return tables;
}

// The other side of the pair whose `from` is `name`.
std::string_view Look(std::span<const NamePair> table, std::string_view NamePair::*from,
                      std::string_view NamePair::*to, std::string_view name) {
  for (const NamePair& pair : table) {
    if (pair.*from == name) return pair.*to;
  }
  return {};
}
std::string_view LookInBlock(const GgufArch& arch, std::string_view NamePair::*from,
                             std::string_view NamePair::*to, std::string_view name) {
  for (const std::span<const NamePair> table : BlockTables(arch)) {
    const std::string_view found = Look(table, from, to, name);
    if (!found.empty()) return found;
  }
  return {};
}

bool IsNumber(std::string_view text) {
  return !text.empty() && text.size() <= 9 &&
         text.find_first_not_of("0123456789") == std::string_view::npos;
}

// "x.12.rest" with prefix "x." -> number "12", rest "rest"; false if it isn't so.
bool TakeNumber(std::string_view name, std::string_view prefix, std::string_view* number,
                std::string_view* rest) {
  if (!name.starts_with(prefix)) return false;
  name.remove_prefix(prefix.size());
  const size_t dot = name.find('.');
  if (dot == name.npos || !IsNumber(name.substr(0, dot))) return false;
  *number = name.substr(0, dot);
  *rest = name.substr(dot + 1);
  return true;
}

bool TakeKind(std::string_view* name, std::string_view* kind) {
  const size_t dot = name->rfind('.');
  if (dot == name->npos) return false;
  *kind = name->substr(dot);
  *name = name->substr(0, dot);
  return *kind == ".weight" || *kind == ".bias";
}

// "mlp.experts.7.up_proj" -> "mlp.experts.{}.up_proj" and 7.
std::string WithoutExpert(std::string_view name, int64_t* expert) {
  const std::string_view mark = ".experts.";
  const size_t at = name.find(mark);
  std::string_view number, rest;
  *expert = -1;
  if (at == name.npos || !TakeNumber(name.substr(at), mark, &number, &rest)) {
    return std::string(name);
  }
  std::from_chars(number.data(), number.data() + number.size(), *expert);
  return std::string(name.substr(0, at + mark.size())).append("{}.").append(rest);
}

void AddWord(std::string* list, std::string_view word) {
  list->append(list->empty() ? "" : ", ").append(word);
}

}  // namespace

std::span<const GgufArch> GgufArchs() { return kArchs; }

const GgufArch* FindGgufArch(std::string_view model_type) {
  const auto it = std::find_if(kArchs.begin(), kArchs.end(),
                               [&](const GgufArch& arch) { return arch.model_type == model_type; });
  return it == kArchs.end() ? nullptr : &*it;
}

std::string GgufModelTypes() {
  std::string list;
  for (const GgufArch& arch : kArchs) AddWord(&list, arch.model_type);
  return list;
}

std::string GgufArchNames() {
  std::string list;
  std::string_view last;
  for (const GgufArch& arch : kArchs) {
    if (arch.gguf != last) AddWord(&list, arch.gguf);
    last = arch.gguf;
  }
  return list;
}

std::string HfName(const GgufArch& arch, std::string_view name) {
  std::string_view stem = name, kind, number, rest;
  if (!TakeKind(&stem, &kind)) return std::string(name);
  if (!stem.starts_with("blk.")) {
    const std::string_view hf = Look(kModel, &NamePair::gguf, &NamePair::hf, stem);
    return hf.empty() ? std::string(name) : std::string(hf).append(kind);
  }
  if (!TakeNumber(stem, "blk.", &number, &rest)) return std::string(name);
  const std::string_view hf = LookInBlock(arch, &NamePair::gguf, &NamePair::hf, rest);
  if (hf.empty()) return std::string(name);
  return std::string("model.layers.").append(number).append(".").append(hf).append(kind);
}

std::string GgufName(const GgufArch& arch, std::string_view name, int64_t* expert) {
  std::string_view stem = name, kind, number, rest;
  *expert = -1;
  if (!TakeKind(&stem, &kind)) return "";
  if (!TakeNumber(stem, "model.layers.", &number, &rest)) {
    const std::string_view gguf = Look(kModel, &NamePair::hf, &NamePair::gguf, stem);
    return gguf.empty() ? "" : std::string(gguf).append(kind);
  }
  const std::string generic = WithoutExpert(rest, expert);
  const std::string_view gguf = LookInBlock(arch, &NamePair::hf, &NamePair::gguf, generic);
  if (gguf.empty()) return "";
  return std::string("blk.").append(number).append(".").append(gguf).append(kind);
}

std::string TensorClass(std::string_view name) {
  std::string_view stem = name, kind, number, rest;
  const bool known = TakeKind(&stem, &kind);
  if (!known) stem = name;
  int64_t expert = -1;
  for (const std::string_view prefix : {"model.layers.", "blk."}) {
    if (TakeNumber(stem, prefix, &number, &rest)) {
      stem = rest;
      break;
    }
  }
  if (stem.starts_with("model.")) stem.remove_prefix(6);
  std::string out = WithoutExpert(stem, &expert);
  return kind == ".bias" ? out.append(".bias") : out;
}

}  // namespace retort::model
