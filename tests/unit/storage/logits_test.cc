// Logits of models kept in every type, against f32 weights of the same values.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <regex>

#include "core/base/rng.h"
#include "core/model/gguf_export.h"
#include "tests/unit/io/temp_folder.h"
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

// Rounding may send a token to other experts, and a model that chooses is a step function there. So
// every token takes all experts here; that choices are those of llama.cpp but for near ties,
// tests/peers/check_gguf.py shows.
class StoredExperts : public ::testing::TestWithParam<std::pair<const char*, int>> {};

TEST_P(StoredExperts, LogitsAreThoseOfEqualWeights) {
  const auto session = NewSession();
  const auto [name, experts] = GetParam();
  const auto source =
      model::Source::Open(std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/" + name).value();
  const std::string config = std::regex_replace(
      source->config().root().Dump(), std::regex(R"("num_experts_per_tok": *\d+)"),
      "\"num_experts_per_tok\": " + std::to_string(experts));
  const graph::Graph graph = session->BuildGraph(config).value();
  for (const Storage storage : kStorages) ExpectLogitsOfEqualWeights(graph, storage, source.get());
}

INSTANTIATE_TEST_SUITE_P(Models, StoredExperts,
                         ::testing::Values(std::pair("mixtral", 4), std::pair("qwen2_moe", 6),
                                           std::pair("qwen3_moe", 8)),
                         [](const auto& param) { return std::string(param.param.first); });

// What a GGUF of a type holds is kept as it lies, and is what the folder's weights become when they
// are stored in that type.
class StoredGguf : public ::testing::TestWithParam<const char*> {};

TEST_P(StoredGguf, EveryTypeIsKeptAsTheFileHasIt) {
  const auto session = NewSession();
  const auto folder =
      model::Source::Open(std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/" + GetParam()).value();
  const graph::Graph graph = session->BuildGraph(*folder).value();
  const auto ids = RandomIds(20, graph.vocab());
  const io::TempFolder dir;
  for (const char* name : {"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q4_k", "q6_k"}) {
    const io::GgmlType type = model::ParseExportType(name).value();
    const std::string path = dir / (std::string(name) + ".gguf");
    const auto plan = model::PlanExport(*folder, graph, {.type = type, .head = type}).value();
    ASSERT_TRUE(model::WriteGguf(io::RealFileSystem(), path, plan, {}).ok()) << name;
    const auto file = model::Source::Open(path).value();
    const graph::Graph of_file = session->BuildGraph(*file).value();
    StoredModel kept = StoredModel::Load(of_file, Storage::kAuto, file.get());
    StoredModel made = StoredModel::Load(graph, model::ParseStorage(name).value(), folder.get());
    const TensorView a = kept.store().view(static_cast<size_t>(of_file.head)),
                     b = made.store().view(static_cast<size_t>(graph.head));
    EXPECT_EQ(DTypeName(a.dtype), DTypeName(b.dtype)) << name;
    // Experts whose rows no block fills are f16 in a file, f32 here: sums in another order.
    const double error = RelativeError(kept.Logits(ids), made.Logits(ids));
    EXPECT_LE(error, std::string_view(GetParam()) == "mixtral" ? kF32Bound : 0) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, StoredGguf,
                         ::testing::Values("llama", "qwen2", "qwen3", "mixtral"),
                         [](const auto& param) { return std::string(param.param); });

}  // namespace
}  // namespace retort::host
