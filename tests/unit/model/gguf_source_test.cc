// A small llama GGUF built by hand: what an HF folder of it must look like.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <cmath>
#include <numbers>
#include <numeric>

#include "core/model/source.h"
#include "tests/unit/io/gguf_bytes.h"
#include "tests/unit/io/temp_folder.h"

namespace retort::model {
namespace {

using io::GgufBytes;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Width 4, two heads of 4 (key_length), one key/value head, vocabulary of 5.
GgufBytes Keys(const std::string& arch = "llama") {
  GgufBytes f;
  f.String("general.architecture", arch).U32(arch + ".block_count", 1);
  f.U32(arch + ".context_length", 64).U32(arch + ".embedding_length", 4);
  f.U32(arch + ".feed_forward_length", 6).U32(arch + ".attention.head_count", 2);
  f.U32(arch + ".attention.head_count_kv", 1).U32(arch + ".attention.key_length", 4);
  f.F32(arch + ".attention.layer_norm_rms_epsilon", 1e-5f).F32(arch + ".rope.freq_base", 10000.0f);
  return f;
}

GgufBytes& Tokens(GgufBytes& f, const std::string& pre = "smollm") {
  f.String("tokenizer.ggml.model", "gpt2").String("tokenizer.ggml.pre", pre);
  f.Strings("tokenizer.ggml.tokens", {"<|end|>", "a", "b", "ab", "<tool>"});
  f.Ints("tokenizer.ggml.token_type", {3, 1, 1, 1, 4}).Strings("tokenizer.ggml.merges", {"a b"});
  f.U32("tokenizer.ggml.bos_token_id", 0).U32("tokenizer.ggml.eos_token_id", 0);
  return f.String("tokenizer.chat_template", "{{ x }}");
}

GgufBytes& Embedding(GgufBytes& f) {
  std::vector<float> values(20);
  std::iota(values.begin(), values.end(), 0.0f);
  return f.Floats("token_embd.weight", {4, 5}, values);
}

std::unique_ptr<Source> Open(const io::TempFolder& dir, const GgufBytes& file) {
  return Source::Open(dir.Write("m.gguf", file.Bytes())).value();
}

void ExpectRejected(const GgufBytes& file, const std::string& rule) {
  const io::TempFolder dir;
  const auto source = Source::Open(dir.Write("m.gguf", file.Bytes()));
  ASSERT_FALSE(source.ok()) << rule;
  EXPECT_THAT(source.status().message(), HasSubstr(rule));
  EXPECT_THAT(source.status().message(), HasSubstr("m.gguf"));
}

TEST(GgufSource, ConfigHasTheKeysOfAnHfFolder) {
  const io::TempFolder dir;
  GgufBytes f = Keys();
  Embedding(Tokens(f));
  const auto source = Open(dir, f);
  EXPECT_TRUE(source->is_gguf());
  const json::Value c = source->config().root();
  EXPECT_EQ(c["model_type"].StringOr(""), "llama");
  EXPECT_EQ(c["architectures"][0].StringOr(""), "LlamaForCausalLM");
  EXPECT_EQ(c["vocab_size"].IntOr(0), 5);
  EXPECT_EQ(c["hidden_size"].IntOr(0), 4);
  EXPECT_EQ(c["intermediate_size"].IntOr(0), 6);
  EXPECT_EQ(c["num_hidden_layers"].IntOr(0), 1);
  EXPECT_EQ(c["num_attention_heads"].IntOr(0), 2);
  EXPECT_EQ(c["num_key_value_heads"].IntOr(0), 1);
  EXPECT_EQ(c["head_dim"].IntOr(0), 4);
  EXPECT_EQ(c["max_position_embeddings"].IntOr(0), 64);
  EXPECT_EQ(c["rms_norm_eps"].number_text(), "1e-05");
  EXPECT_EQ(c["rope_theta"].DoubleOr(0), 10000.0);
  EXPECT_TRUE(c["tie_word_embeddings"].BoolOr(false));
  EXPECT_FALSE(c["attention_bias"].BoolOr(true));
  EXPECT_FALSE(c["rope_scaling"]);
  EXPECT_EQ(source->chat_template(), "{{ x }}");
}

TEST(GgufSource, AHeadOfItsOwnUnties) {
  const io::TempFolder dir;
  GgufBytes f = Keys("qwen3");
  Embedding(f).Floats("output.weight", {4, 5}, std::vector<float>(20));
  const auto source = Open(dir, f);
  EXPECT_FALSE(source->config().root()["tie_word_embeddings"].BoolOr(true));
  EXPECT_NE(source->Find("lm_head.weight"), nullptr);
  EXPECT_EQ(source->tokenizer_json(), "");
}

// HF's rotary pairs are (j, j + H/2), llama.cpp's (2j, 2j + 1): the converter reshapes q and k
// [heads, 2, H/2, D] -> swap axes 1 and 2. Done here by index, read back through the source.
TEST(GgufSource, RowsOfLlamaQueriesAreUnpermuted) {
  const io::TempFolder dir;
  constexpr size_t kHeads = 2, kHead = 4, kWidth = 4;
  std::vector<float> hf(kHeads * kHead * kWidth), file(hf.size());
  std::iota(hf.begin(), hf.end(), 0.0f);
  for (size_t h = 0; h < kHeads; ++h) {
    for (size_t half = 0; half < 2; ++half) {
      for (size_t j = 0; j < kHead / 2; ++j) {
        for (size_t d = 0; d < kWidth; ++d) {
          file[((h * kHead / 2 + j) * 2 + half) * kWidth + d] =
              hf[((h * 2 + half) * kHead / 2 + j) * kWidth + d];
        }
      }
    }
  }
  for (const char* arch : {"llama", "qwen2"}) {
    GgufBytes f = Keys(arch);
    Embedding(f)
        .Floats("blk.0.attn_q.weight", {4, 8}, file)
        .Floats("blk.0.attn_v.weight", {4, 8}, file);
    const auto source = Open(dir, f);
    const auto read = [&](const std::string& name, int64_t begin, int64_t end) {
      std::vector<double> out(static_cast<size_t>(end - begin) * kWidth);
      EXPECT_TRUE(source
                      ->ReadRows(name, begin, end,
                                 TensorView::Contiguous(out.data(), DType::kF64, {end - begin, 4}))
                      .ok());
      return std::vector<float>(out.begin(), out.end());
    };
    const bool llama = std::string_view(arch) == "llama";
    EXPECT_EQ(read("model.layers.0.self_attn.q_proj.weight", 0, 8), llama ? hf : file);
    EXPECT_EQ(
        read("model.layers.0.self_attn.q_proj.weight", 3, 6),
        std::vector<float>((llama ? hf : file).begin() + 12, (llama ? hf : file).begin() + 24));
    EXPECT_EQ(read("model.layers.0.self_attn.v_proj.weight", 0, 8), file);
  }
}

// One key/value head is a head like any other.
TEST(GgufSource, RowsOfASingleKeyHeadAreUnpermutedToo) {
  const io::TempFolder dir;
  GgufBytes f = Keys();
  Embedding(f).Floats("blk.0.attn_k.weight", {1, 4}, {0, 1, 2, 3});
  std::vector<float> out(4);
  ASSERT_TRUE(Open(dir, f)
                  ->ReadRows("model.layers.0.self_attn.k_proj.weight", 0, 4,
                             TensorView::Contiguous(out.data(), DType::kF32, {4, 1}))
                  .ok());
  EXPECT_THAT(out, ElementsAre(0, 2, 1, 3));
}

TEST(GgufSource, ExpertsAreTakenApart) {
  const io::TempFolder dir;
  GgufBytes f = Keys("qwen3moe");
  f.U32("qwen3moe.expert_count", 2).U32("qwen3moe.expert_used_count", 1);
  Embedding(f).Floats("blk.0.ffn_up_exps.weight", {2, 1, 2}, {1, 2, 3, 4});
  const auto source = Open(dir, f);
  EXPECT_EQ(source->config().root()["model_type"].StringOr(""), "qwen3_moe");
  EXPECT_TRUE(source->config().root()["norm_topk_prob"].BoolOr(false));
  std::vector<float> out(2);
  ASSERT_TRUE(source
                  ->ReadRows("model.layers.0.mlp.experts.1.up_proj.weight", 0, 1,
                             TensorView::Contiguous(out.data(), DType::kF32, {1, 2}))
                  .ok());
  EXPECT_THAT(out, ElementsAre(3, 4));
  EXPECT_EQ(source->Find("model.layers.0.mlp.experts.0.up_proj.weight")->bytes, 8u);
}

// Norms of gemma are 1 + weight in the file.
TEST(GgufSource, NormsOfGemmaLoseTheirOne) {
  const io::TempFolder dir;
  GgufBytes f = Keys("gemma2");
  Embedding(f).Floats("blk.0.attn_norm.weight", {4}, {1, 1.5f, 0, 3});
  std::vector<float> out(4);
  const auto source = Open(dir, f);
  ASSERT_TRUE(source
                  ->ReadRows("model.layers.0.input_layernorm.weight", 0, 4,
                             TensorView::Contiguous(out.data(), DType::kF32, {4}))
                  .ok());
  EXPECT_THAT(out, ElementsAre(0, 0.5f, -1, 2));
  const json::Value config = source->config().root();
  EXPECT_EQ(config["layer_types"][0].StringOr(""), "sliding_attention");
  EXPECT_EQ(config["attn_logit_softcapping"].DoubleOr(0), 50);  // llama.cpp's, where none is said
  EXPECT_EQ(config["query_pre_attn_scalar"].IntOr(0), 4);
}

// llama.cpp needs a head of its own in olmo2: a tied model has its embedding twice.
TEST(GgufSource, AHeadThatRepeatsTheEmbeddingIsTied) {
  const io::TempFolder dir;
  GgufBytes f = Keys("olmo2");
  std::vector<float> values(20);
  std::iota(values.begin(), values.end(), 0.0f);
  Embedding(f).Floats("output.weight", {4, 5}, values);
  const auto source = Open(dir, f);
  EXPECT_TRUE(source->config().root()["tie_word_embeddings"].BoolOr(false));
  EXPECT_EQ(source->Find("lm_head.weight"), nullptr);
}

TEST(GgufSource, NamesAreThoseOfAnHfFolder) {
  const io::TempFolder dir;
  GgufBytes f = Keys();
  Embedding(f);
  for (const char* name : {"output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight",
                           "blk.0.attn_output.weight", "blk.0.ffn_gate.weight",
                           "blk.0.ffn_up.weight", "blk.0.ffn_down.weight", "blk.12.attn_v.bias",
                           "blk.0.attn_q_norm.weight", "strange.weight", "blk.x.ffn_up.weight"}) {
    f.Floats(name, {4}, {1, 2, 3, 4});
  }
  std::vector<std::string> names;
  const auto source = Open(dir, f);
  for (const TensorInfo& tensor : source->tensors()) names.push_back(tensor.name);
  EXPECT_THAT(
      names, ElementsAre(
                 "blk.x.ffn_up.weight", "model.embed_tokens.weight",
                 "model.layers.0.input_layernorm.weight", "model.layers.0.mlp.down_proj.weight",
                 "model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight",
                 "model.layers.0.post_attention_layernorm.weight",
                 "model.layers.0.self_attn.o_proj.weight", "model.layers.0.self_attn.q_norm.weight",
                 "model.layers.12.self_attn.v_proj.bias", "model.norm.weight", "strange.weight"));
}

TEST(GgufTokenizer, BecomesATokenizerJson) {
  const io::TempFolder dir;
  GgufBytes f = Keys();
  Embedding(Tokens(f));
  const auto source = Open(dir, f);
  const auto doc = json::Document::Parse(source->tokenizer_json(), "tokenizer.json").value();
  const json::Value t = doc.root();
  EXPECT_EQ(t["model"]["vocab"].Dump(), R"({"<|end|>":0,"a":1,"b":2,"ab":3,"<tool>":4})");
  EXPECT_EQ(t["model"]["merges"].Dump(), R"([["a","b"]])");
  ASSERT_EQ(t["added_tokens"].size(), 2u);
  EXPECT_EQ(t["added_tokens"][0]["content"].StringOr(""), "<|end|>");
  EXPECT_TRUE(t["added_tokens"][0]["special"].BoolOr(false));
  EXPECT_FALSE(t["added_tokens"][1]["special"].BoolOr(true));
  EXPECT_EQ(t["pre_tokenizer"]["pretokenizers"][0]["type"].StringOr(""), "Digits");
  EXPECT_EQ(t["post_processor"]["type"].StringOr(""), "ByteLevel");
  EXPECT_THAT(source->tokenizer_config_json(), HasSubstr("\"eos_token\": \"<|end|>\""));
  EXPECT_THAT(source->generation_config_json(), HasSubstr("\"eos_token_id\": 0"));
}

TEST(GgufTokenizer, ABosInFrontBecomesATemplate) {
  const io::TempFolder dir;
  GgufBytes f = Keys();
  Embedding(Tokens(f, "llama-bpe"));
  const auto source = Open(dir, f);
  const auto doc = json::Document::Parse(source->tokenizer_json(), "tokenizer.json").value();
  const json::Value post = doc.root()["post_processor"];
  EXPECT_EQ(post["type"].StringOr(""), "TemplateProcessing");
  EXPECT_EQ(post["single"][0]["SpecialToken"]["id"].StringOr(""), "<|end|>");
  EXPECT_EQ(post["single"].size(), 2u);
  EXPECT_EQ(post["special_tokens"]["<|end|>"]["ids"][0].IntOr(-1), 0);
  EXPECT_TRUE(doc.root()["model"]["ignore_merges"].BoolOr(false));
  EXPECT_THAT(source->tokenizer_json(), HasSubstr("\\\\p{N}{1,3}"));
}

TEST(GgufTokenizer, MistakesAreNamed) {
  GgufBytes f = Keys();
  Embedding(Tokens(f, "klingon"));
  ExpectRejected(f, "tokenizer.ggml.pre \"klingon\" is not known (known are gpt-2, smollm");
  f = Keys();
  Embedding(f).Strings("tokenizer.ggml.tokens", {"a"}).String("tokenizer.ggml.model", "bert");
  ExpectRejected(f, "tokenizer.ggml.model \"bert\" is not read");
  f = Keys();
  Embedding(Tokens(f)).U32("tokenizer.ggml.eot_token_id", 5);
  ExpectRejected(f, "eot_token_id is 5, the vocabulary has 5 tokens");
  const auto with = [](const std::vector<std::string>& tokens,
                       const std::vector<std::string>& merges, const std::vector<int32_t>& types) {
    GgufBytes g = Keys();
    g.String("tokenizer.ggml.model", "gpt2").String("tokenizer.ggml.pre", "gpt-2");
    g.Strings("tokenizer.ggml.tokens", tokens).Strings("tokenizer.ggml.merges", merges);
    g.Ints("tokenizer.ggml.token_type", types);
    return Embedding(g);
  };
  ExpectRejected(with({"a", "b", "a"}, {}, {1, 1, 1}), "tokens 0 and 2 are both \"a\"");
  ExpectRejected(with({"a", "b"}, {"ab"}, {1, 1}), "merge 0, \"ab\", is not two parts");
  ExpectRejected(with({"a", "b"}, {"a b c"}, {1, 1}), "merge 0, \"a b c\"");
  ExpectRejected(with({"a", "b"}, {}, {1}), "1 token types for 2 tokens");
}

TEST(GgufConfig, MistakesAreNamed) {
  GgufBytes f = Keys("mamba");
  ExpectRejected(
      Embedding(f),
      "architecture \"mamba\" is not read from GGUF (read are llama, qwen2, qwen3, qwen2moe");
  f = GgufBytes();
  ExpectRejected(Embedding(f), "has no key general.architecture");
  ExpectRejected(Keys(), "has no matrix token_embd.weight");
  f = GgufBytes();
  f.String("general.architecture", "llama").U32("llama.block_count", 0);
  ExpectRejected(Embedding(f), "has no key llama.embedding_length");
  f = Keys();
  f.kvs[1] = io::Str("llama.block_count") + io::Raw(uint32_t{4}) + io::Raw(uint32_t{0x80000000});
  ExpectRejected(Embedding(f),
                 "llama.block_count must be a whole number of 1 to 2^31 - 1, not 2147483648");
  f = Keys();
  Embedding(f).Floats("blk.0.attn_q.weight", {4, 7}, std::vector<float>(28));
  ExpectRejected(f, "has 7 rows, not an even number for each of 2 heads");
}

// Factors by the published llama3 rule: factor 8, low 1, high 4, context 8192.
TEST(GgufConfig, Llama3RopeFactorsBecomeScaling) {
  std::vector<float> factors;
  constexpr int kPairs = 64;
  for (int j = 0; j < kPairs; ++j) {
    const double wavelength =
        2 * std::numbers::pi * std::pow(10000.0, static_cast<double>(j) / kPairs);
    const double low = 8192.0 / 1, high = 8192.0 / 4;
    const double smooth = (8192 / wavelength - 1) / (4 - 1);
    factors.push_back(static_cast<float>(wavelength < high  ? 1
                                         : wavelength > low ? 8
                                                            : 1 / ((1 - smooth) / 8 + smooth)));
  }
  const io::TempFolder dir;
  GgufBytes f = Keys();
  Embedding(f).Floats("rope_freqs.weight", {kPairs}, factors);
  const auto source = Open(dir, f);
  const json::Value scaling = source->config().root()["rope_scaling"];
  EXPECT_EQ(scaling["rope_type"].StringOr(""), "llama3");
  EXPECT_EQ(scaling["factor"].DoubleOr(0), 8.0);
  EXPECT_EQ(source->Find("rope_freqs.weight"), nullptr);
  factors[40] *= 1.5f;
  f = Keys();
  ExpectRejected(Embedding(f).Floats("rope_freqs.weight", {kPairs}, factors),
                 "does not follow the llama3 rule");
}

}  // namespace
}  // namespace retort::model
