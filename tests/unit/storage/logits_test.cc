// Logits of models kept in every type, against f32 weights of the same values.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/rng.h"
#include "tests/unit/storage/stored_model.h"

namespace retort::host {
namespace {

using model::Storage;

constexpr Storage kStorages[] = {Storage::kF16,  Storage::kBF16, Storage::kQ8_0, Storage::kQ4_0,
                                 Storage::kQ4_1, Storage::kQ4_K, Storage::kQ6_K, Storage::kNF4};
// Rounds nothing but sums: f32 products of equal numbers in another order.
constexpr double kF32Bound = 2e-5;

// Whether products round what meets the weights: those of GGUF's blocks do, which rows that blocks
// of another type don't fill fall back to.
bool RoundsRows(const model::ParamStore& store) {
  const auto views = store.views();
  return std::any_of(views.begin(), views.end(), [](const TensorView& view) {
    return IsBlockType(view.dtype) && view.dtype != DType::kNF4;
  });
}

std::vector<int32_t> RandomIds(int64_t n, int64_t vocab) {
  Rng rng(RngKey{11, 4});
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n; ++i) {
    ids.push_back(static_cast<int32_t>(rng.Below(static_cast<uint64_t>(vocab))));
  }
  return ids;
}

// Few rows and many take other paths.
void ExpectLogitsOfEqualWeights(const graph::Graph& graph, Storage storage,
                                const model::Source* source) {
  StoredModel stored = StoredModel::Load(graph, storage, source), exact = stored.Dequantized();
  const bool rounds = RoundsRows(stored.store());
  const double bound = rounds ? Int8Bound(graph) : kF32Bound;
  for (const int64_t rows : {1, 5, 40}) {
    const auto ids = RandomIds(rows, graph.vocab());
    const double error = RelativeError(stored.Logits(ids), exact.Logits(ids));
    std::printf("%-5s %2d rows: %.3g of the spread, bound %.3g\n",
                std::string(model::StorageName(storage)).c_str(), static_cast<int>(rows), error,
                bound);
    EXPECT_LE(error, bound) << model::StorageName(storage) << ", " << rows << " rows";
    if (rounds) {
      EXPECT_GT(error, 0);  // or it ran another path
    }
  }
}

// Wide enough for every block type.
TEST(StoredLogits, EveryTypeOnAWideModel) {
  const auto session = NewSession();
  const graph::Graph graph = session
                                 ->BuildGraph(std::string(R"({"model_type": "llama",
    "architectures": ["LlamaForCausalLM"], "hidden_size": 256, "intermediate_size": 512,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 301,
    "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "hidden_act": "silu", "tie_word_embeddings": false})"))
                                 .value();
  for (const Storage storage : kStorages) {
    const StoredModel stored = StoredModel::Load(graph, storage, nullptr);
    EXPECT_EQ(DTypeName(stored.store().view(static_cast<size_t>(graph.head)).dtype),
              model::StorageName(storage));
    ExpectLogitsOfEqualWeights(graph, storage, nullptr);
  }
}

class StoredFixture : public ::testing::TestWithParam<const char*> {};

TEST_P(StoredFixture, LogitsAreThoseOfEqualWeights) {
  const auto session = NewSession();
  const auto source =
      model::Source::Open(std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/" + GetParam()).value();
  const graph::Graph graph = session->BuildGraph(*source).value();
  for (const Storage storage : kStorages) ExpectLogitsOfEqualWeights(graph, storage, source.get());
}

INSTANTIATE_TEST_SUITE_P(Models, StoredFixture,
                         ::testing::Values("llama", "qwen2", "qwen3", "mistral", "olmo2", "gemma2",
                                           "phi3", "gemma3_text"),
                         [](const auto& param) { return std::string(param.param); });

}  // namespace
}  // namespace retort::host
