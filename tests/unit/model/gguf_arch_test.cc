// Names of tensors in GGUF, by architecture: those of llama.cpp, there and back.
// SPDX-License-Identifier: Apache-2.0
#include "core/model/gguf_arch.h"

#include <gmock/gmock.h>

#include "core/model/gguf_layout.h"
#include "core/model/gguf_view.h"

namespace retort::model {
namespace {

struct Case {
  const char *model_type, *hf, *gguf;
  int64_t expert = -1;
};

// As llama.cpp's own converter maps them.
constexpr Case kCases[] = {
    {"llama", "model.embed_tokens.weight", "token_embd.weight"},
    {"llama", "model.norm.weight", "output_norm.weight"},
    {"llama", "lm_head.weight", "output.weight"},
    {"llama", "model.layers.12.post_attention_layernorm.weight", "blk.12.ffn_norm.weight"},
    {"llama", "model.layers.0.self_attn.q_proj.bias", "blk.0.attn_q.bias"},
    {"qwen3", "model.layers.3.self_attn.k_norm.weight", "blk.3.attn_k_norm.weight"},
    {"gemma2", "model.layers.1.post_attention_layernorm.weight",
     "blk.1.post_attention_norm.weight"},
    {"gemma2", "model.layers.1.pre_feedforward_layernorm.weight", "blk.1.ffn_norm.weight"},
    {"gemma3_text", "model.layers.1.post_feedforward_layernorm.weight",
     "blk.1.post_ffw_norm.weight"},
    {"olmo2", "model.layers.1.post_attention_layernorm.weight", "blk.1.post_attention_norm.weight"},
    {"olmo2", "model.layers.1.post_feedforward_layernorm.weight", "blk.1.post_ffw_norm.weight"},
    {"phi3", "model.layers.1.self_attn.qkv_proj.weight", "blk.1.attn_qkv.weight"},
    {"phi3", "model.layers.1.mlp.gate_up_proj.weight", "blk.1.ffn_up.weight"},
    {"phi3", "model.layers.1.mlp.down_proj.weight", "blk.1.ffn_down.weight"},
    {"qwen2_moe", "model.layers.1.mlp.gate.weight", "blk.1.ffn_gate_inp.weight"},
    {"qwen2_moe", "model.layers.1.mlp.experts.7.up_proj.weight", "blk.1.ffn_up_exps.weight", 7},
    {"qwen2_moe", "model.layers.1.mlp.shared_expert_gate.weight",
     "blk.1.ffn_gate_inp_shexp.weight"},
    {"qwen2_moe", "model.layers.1.mlp.shared_expert.down_proj.weight",
     "blk.1.ffn_down_shexp.weight"},
    {"qwen3_moe", "model.layers.1.mlp.experts.63.gate_proj.weight", "blk.1.ffn_gate_exps.weight",
     63},
    {"mixtral", "model.layers.1.block_sparse_moe.experts.2.w2.weight", "blk.1.ffn_down_exps.weight",
     2},
    {"mixtral", "model.layers.1.block_sparse_moe.gate.weight", "blk.1.ffn_gate_inp.weight"},
};

TEST(GgufArch, NamesGoThereAndBack) {
  for (const Case& one : kCases) {
    const GgufArch& arch = *FindGgufArch(one.model_type);
    int64_t expert = 0;
    EXPECT_EQ(GgufName(arch, one.hf, &expert), one.gguf);
    EXPECT_EQ(expert, one.expert) << one.hf;
    std::string back = HfName(arch, one.gguf);
    if (expert >= 0) back.replace(back.find("{}"), 2, std::to_string(expert));
    EXPECT_EQ(back, one.hf);
  }
}

TEST(GgufArch, UnknownNamesHaveNone) {
  const GgufArch& llama = *FindGgufArch("llama");
  int64_t expert = 0;
  for (const char* name :
       {"", "model.layers.0.mlp.up_proj", "model.layers.x.mlp.up_proj.weight", "norm.weight",
        "model.layers.0.self_attn.qkv_proj.weight", "model.layers.0.mlp.experts.0.up_proj.weight",
        "model.layers.9999999999.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.scales"}) {
    EXPECT_EQ(GgufName(llama, name, &expert), "") << name;
  }
  EXPECT_EQ(HfName(llama, "blk.0.attn_qkv.weight"), "blk.0.attn_qkv.weight");
  EXPECT_EQ(FindGgufArch("gpt2"), nullptr);
}

TEST(GgufArch, ClassesDropLayersAndExperts) {
  EXPECT_EQ(TensorClass("model.layers.3.mlp.up_proj.weight"), "mlp.up_proj");
  EXPECT_EQ(TensorClass("model.layers.3.self_attn.q_proj.bias"), "self_attn.q_proj.bias");
  EXPECT_EQ(TensorClass("model.layers.3.mlp.experts.12.up_proj.weight"), "mlp.experts.{}.up_proj");
  EXPECT_EQ(TensorClass("model.embed_tokens.weight"), "embed_tokens");
  EXPECT_EQ(TensorClass("blk.7.ssm_in.weight"), "ssm_in");
}

// Pairs (j, j + H/2) to (2j, 2j + 1), in each head.
TEST(GgufLayout, RowsOfHeadsGoThereAndBack) {
  EXPECT_EQ(PermutedRow(0, 8), 0);
  EXPECT_EQ(PermutedRow(4, 8), 1);
  EXPECT_EQ(PermutedRow(1, 8), 2);
  EXPECT_EQ(PermutedRow(8 + 7, 8), 8 + 7);
  for (int64_t row = 0; row < 64; ++row) {
    EXPECT_EQ(UnpermutedRow(PermutedRow(row, 16), 16), row);
    EXPECT_EQ(PermutedRow(UnpermutedRow(row, 16), 16), row);
  }
}

// Factors as transformers' llama3 rule gives them for Llama 3.2 1B (inv_freq by inv_freq).
TEST(GgufRope, Llama3FactorsAreThoseOfTheRule) {
  const auto factors = Llama3Factors({.factor = 32, .low = 1, .high = 4, .context = 8192}, 5e5, 64);
  ASSERT_EQ(factors.size(), 32u);
  EXPECT_EQ(factors[0], 1);
  EXPECT_EQ(factors[14], 1);               // wavelength 1956, below 8192 / 4
  EXPECT_NEAR(factors[16], 3.2923, 1e-3);  // wavelength 4443: 0.2813 of the way
  EXPECT_EQ(factors[31], 32);
}

}  // namespace
}  // namespace retort::model
