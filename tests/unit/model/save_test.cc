// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "core/io/safetensors.h"
#include "core/model/params.h"
#include "tests/unit/io/temp_folder.h"
#include "tests/unit/model/tensor_graph.h"

namespace retort::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Fixture(const std::string& name) {
  return std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/" + name;
}

// Loads a fixture and writes it again.
std::vector<io::FileDigest> Rewrite(const std::string& from, const std::string& to, DType store) {
  const auto source = Source::Open(from).value();
  const graph::Graph graph = TensorGraph(*source);
  const ParamStore params = ParamStore::Allocate(graph).value();
  EXPECT_TRUE(LoadParams(*source, graph, params).ok());
  return WriteModelFolder(io::RealFileSystem(), to, TextsOf(*source), graph, params.views(), store)
      .value();
}

TEST(WriteModelFolder, RewritingGivesEqualWeights) {
  for (const char* name : {"llama", "qwen2", "qwen3", "mistral", "olmo2", "gemma2", "phi3",
                           "gemma3_text", "qwen2_moe", "qwen3_moe", "mixtral"}) {
    const io::TempFolder dir;
    const auto digests = Rewrite(Fixture(name), dir / "out", DType::kF32);
    const auto a = Source::Open(Fixture(name)).value(), b = Source::Open(dir / "out").value();
    ASSERT_EQ(a->tensors().size(), b->tensors().size());
    for (const TensorInfo& tensor : a->tensors()) {
      ASSERT_NE(b->Find(tensor.name), nullptr);
      EXPECT_EQ(b->Find(tensor.name)->storage, "F32");
      int64_t n = 1;
      for (int64_t d : tensor.shape) n *= d;
      std::vector<float> x(static_cast<size_t>(n)), y(x.size());
      ASSERT_TRUE(a->ReadRows(tensor.name, 0, tensor.shape[0],
                              TensorView::Contiguous(x.data(), DType::kF32, tensor.shape))
                      .ok());
      ASSERT_TRUE(b->ReadRows(tensor.name, 0, tensor.shape[0],
                              TensorView::Contiguous(y.data(), DType::kF32, tensor.shape))
                      .ok());
      EXPECT_EQ(x, y) << tensor.name;
    }
    EXPECT_EQ(a->tokenizer_json(), b->tokenizer_json());
    EXPECT_EQ(a->tokenizer_config_json(), b->tokenizer_config_json());
    EXPECT_EQ(a->generation_config_json(), b->generation_config_json());
    EXPECT_EQ(a->chat_template(), b->chat_template());
    std::vector<std::string> names;
    for (const io::FileDigest& digest : digests) {
      names.push_back(digest.name);
      const auto file = io::HashFile(io::Join(dir / "out", digest.name)).value();
      EXPECT_EQ(file.hash, digest.hash);
      EXPECT_EQ(file.bytes, digest.bytes);
    }
    EXPECT_THAT(names,
                ElementsAre("config.json", "generation_config.json", "tokenizer.json",
                            "tokenizer_config.json", "chat_template.jinja", "model.safetensors"));
  }
}

// bf16 weights survive being read as f32 and stored as bf16: the file's tensors are equal bytes.
TEST(WriteModelFolder, Bf16RoundTripsToTheByte) {
  const io::TempFolder dir;
  Rewrite(Fixture("qwen2"), dir / "out", DType::kBF16);
  const io::Safetensors a = io::Safetensors::OpenFolder(Fixture("qwen2")).value();
  const io::Safetensors b = io::Safetensors::OpenFolder(dir / "out").value();
  ASSERT_EQ(a.entries().size(), b.entries().size());
  for (const io::SafetensorsEntry& entry : a.entries()) {
    ASSERT_NE(b.Find(entry.name), nullptr);
    EXPECT_EQ(a.bytes(entry), b.bytes(*b.Find(entry.name))) << entry.name;
  }
}

std::string ConfigAfter(const std::string& config, DType store) {
  const io::TempFolder dir;
  const auto digests = WriteModelFolder(io::RealFileSystem(), dir.path(), {.config_json = config},
                                        MakeGraph({}), {}, store);
  EXPECT_TRUE(digests.ok()) << digests.status().message();
  return json::Document::Parse(io::ReadAll(dir / "config.json"), "c").value().root().Dump();
}

TEST(WriteModelFolder, ConfigKeepsItsKeysAndSaysWhatIsStored) {
  EXPECT_EQ(
      ConfigAfter(
          R"({"architectures":["X"],"torch_dtype":"float16","model_type":"llama","odd":[1.50,{"k":null}]})",
          DType::kF32),
      R"({"architectures":["X"],"torch_dtype":"float32","model_type":"llama","odd":[1.50,{"k":null}]})");
  EXPECT_EQ(ConfigAfter(R"({"model_type":"qwen3","quantization_config":{"bits":4}})", DType::kBF16),
            R"({"architectures":["Qwen3ForCausalLM"],"model_type":"qwen3","dtype":"bfloat16"})");
  EXPECT_EQ(ConfigAfter(R"({"model_type":"llama","architectures":null})", DType::kF32),
            R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","dtype":"float32"})");
}

// Params that stack, slice or transpose go back to the checkpoint's own tensors.
TEST(WriteModelFolder, TakesStackedParamsApart) {
  const graph::Graph graph = MakeGraph(
      {MakeParam("qk", {3, 2},
                 {{.checkpoint_name = "q", .row_begin = 0, .row_end = 2},
                  {.checkpoint_name = "k", .row_begin = 0, .row_end = 1}}),
       MakeParam("up", {1, 2}, {{.checkpoint_name = "gate_up", .row_begin = 1, .row_end = 2}}),
       MakeParam("gate", {1, 2}, {{.checkpoint_name = "gate_up", .row_begin = 0, .row_end = 1}}),
       MakeParam("t", {2, 3}, {{.checkpoint_name = "t", .transpose = true}})});
  const ParamStore store = ParamStore::Allocate(graph).value();
  float next = 0;
  for (size_t i = 0; i < store.size(); ++i) {
    for (int64_t j = 0; j < store.view(i).numel(); ++j) store.data(i)[j] = next++;
  }
  const io::TempFolder dir;
  const auto written = WriteModelFolder(io::RealFileSystem(), dir.path(), {.config_json = "{}"},
                                        graph, store.views());
  ASSERT_TRUE(written.ok()) << written.status().message();
  const auto source = Source::Open(dir.path()).value();
  const auto values = [&](const char* name) {
    const TensorInfo& tensor = *source->Find(name);
    std::vector<float> out(tensor.bytes / sizeof(float));
    EXPECT_TRUE(source
                    ->ReadRows(name, 0, tensor.shape[0],
                               TensorView::Contiguous(out.data(), DType::kF32, tensor.shape))
                    .ok());
    return out;
  };
  EXPECT_THAT(values("q"), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(values("k"), ElementsAre(4, 5));
  EXPECT_THAT(values("gate_up"), ElementsAre(8, 9, 6, 7));
  EXPECT_THAT(values("t"), ElementsAre(10, 13, 11, 14, 12, 15));
  EXPECT_EQ(source->Find("t")->shape, (std::vector<int64_t>{3, 2}));
  const ParamStore again = ParamStore::Allocate(graph).value();
  ASSERT_TRUE(LoadParams(*source, graph, again).ok());
  for (size_t i = 0; i < store.size(); ++i) {
    for (int64_t j = 0; j < store.view(i).numel(); ++j)
      EXPECT_EQ(again.data(i)[j], store.data(i)[j]);
  }
}

TEST(WriteModelFolder, RefusesWhatItCannotTakeApart) {
  const io::TempFolder dir;
  const auto error = [&](const graph::Graph& graph) {
    const ParamStore store = ParamStore::Allocate(graph).value();
    return WriteModelFolder(io::RealFileSystem(), dir.path(), {.config_json = "{}"}, graph,
                            store.views())
        .status()
        .message();
  };
  EXPECT_THAT(error(MakeGraph(
                  {MakeParam("qk", {3, 2}, {{.checkpoint_name = "q"}, {.checkpoint_name = "k"}})})),
              HasSubstr("doesn't say how many rows \"q\" has"));
  EXPECT_THAT(error(MakeGraph({MakeParam(
                  "b", {1, 2}, {{.checkpoint_name = "ab", .row_begin = 1, .row_end = 2}})})),
              HasSubstr("don't cover its rows"));
  EXPECT_FALSE(io::RealFileSystem().Exists(dir / "model.safetensors"));
}

}  // namespace
}  // namespace retort::model
