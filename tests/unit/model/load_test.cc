// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <list>
#include <numeric>

#include "core/io/safetensors.h"
#include "core/model/params.h"
#include "tests/unit/io/temp_folder.h"
#include "tests/unit/model/tensor_graph.h"

namespace retort::model {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A folder with tensors whose values count up from a base.
class Load : public ::testing::Test {
 protected:
  void Tensor(const std::string& name, std::vector<int64_t> shape, float base) {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    std::vector<float>& values = values_.emplace_back(static_cast<size_t>(n));
    std::iota(values.begin(), values.end(), base);
    items_.push_back(
        {.name = name, .view = TensorView::Contiguous(values.data(), DType::kF32, shape)});
  }
  std::unique_ptr<Source> Open() {
    (void)dir_.Write("config.json", "{}");
    EXPECT_TRUE(
        io::WriteSafetensors(io::RealFileSystem(), dir_ / "model.safetensors", items_).ok());
    return Source::Open(dir_.path()).value();
  }
  static std::vector<float> Values(const ParamStore& store, size_t i) {
    return {store.data(i), store.data(i) + store.view(i).numel()};
  }
  io::TempFolder dir_;
  std::list<std::vector<float>> values_;
  std::vector<io::SafetensorsItem> items_;
};

TEST_F(Load, InPlaceAlignedAndInOrder) {
  Tensor("a", {3}, 0);
  Tensor("b", {2, 2}, 10);
  const graph::Graph graph = MakeGraph({MakeParam("b", {2, 2}), MakeParam("a", {3})});
  const ParamStore store = ParamStore::Allocate(graph).value();
  ASSERT_TRUE(LoadParams(*Open(), graph, store, 4).ok());
  EXPECT_THAT(Values(store, 0), ElementsAre(10, 11, 12, 13));
  EXPECT_THAT(Values(store, 1), ElementsAre(0, 1, 2));
  for (size_t i = 0; i < 2; ++i) EXPECT_EQ(reinterpret_cast<uintptr_t>(store.data(i)) % 64, 0u);
  EXPECT_EQ(store.bytes(), 128);
}

TEST_F(Load, StacksSlicesAndTransposes) {
  Tensor("q", {2, 2}, 0);
  Tensor("k", {1, 2}, 10);
  Tensor("t", {3, 2}, 20);  // [in, out]
  Tensor("bq", {2}, 40);
  Tensor("bk", {1}, 50);
  const graph::Graph graph =
      MakeGraph({MakeParam("qk", {3, 2}, {{.checkpoint_name = "q"}, {.checkpoint_name = "k"}}),
                 MakeParam("q1", {1, 2}, {{.checkpoint_name = "q", .row_begin = 1, .row_end = 2}}),
                 MakeParam("t", {2, 3}, {{.checkpoint_name = "t", .transpose = true}}),
                 MakeParam("b", {3}, {{.checkpoint_name = "bq"}, {.checkpoint_name = "bk"}})});
  const ParamStore store = ParamStore::Allocate(graph).value();
  const Status status = LoadParams(*Open(), graph, store);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_THAT(Values(store, 0), ElementsAre(0, 1, 2, 3, 10, 11));
  EXPECT_THAT(Values(store, 1), ElementsAre(2, 3));
  EXPECT_THAT(Values(store, 2), ElementsAre(20, 22, 24, 21, 23, 25));
  EXPECT_THAT(Values(store, 3), ElementsAre(40, 41, 50));
}

TEST_F(Load, ThreeDimensionsAndExpertsStack) {
  Tensor("e", {2, 2, 2}, 0);
  Tensor("x0", {1, 2}, 20);
  Tensor("x1", {1, 2}, 30);
  const graph::Graph graph = MakeGraph(
      {MakeParam("e", {2, 2, 2}),
       MakeParam("x", {2, 1, 2}, {{.checkpoint_name = "x0"}, {.checkpoint_name = "x1"}})});
  const ParamStore store = ParamStore::Allocate(graph).value();
  const Status status = LoadParams(*Open(), graph, store);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_THAT(Values(store, 0), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  EXPECT_THAT(Values(store, 1), ElementsAre(20, 21, 30, 31));
}

TEST_F(Load, OptionalPartsKeepTheirInit) {
  Tensor("a", {2}, 5);
  graph::Param bias = MakeParam("bias", {2}, {{.checkpoint_name = "bias", .optional = true}});
  bias.init = RETORT_INIT_CONSTANT;
  bias.init_value = 0.25;
  const graph::Graph graph = MakeGraph({MakeParam("a", {2}), bias});
  const ParamStore store = ParamStore::Allocate(graph).value();
  ASSERT_TRUE(LoadParams(*Open(), graph, store).ok());
  EXPECT_THAT(Values(store, 1), ElementsAre(0.25f, 0.25f));
}

TEST_F(Load, OneErrorListsAllMistakes) {
  Tensor("model.layers.0.mlp.up_porj.weight", {2, 2}, 0);
  Tensor("norm", {3}, 0);
  Tensor("extra", {1}, 0);
  const graph::Graph graph = MakeGraph({MakeParam("model.layers.0.mlp.up_proj.weight", {2, 2}),
                                        MakeParam("norm", {4}), MakeParam("gone", {1})});
  const ParamStore store = ParamStore::Allocate(graph).value();
  const Status status = LoadParams(*Open(), graph, store);
  EXPECT_EQ(status.code(), Code::kFailedPrecondition);
  EXPECT_THAT(
      status.message(),
      AllOf(HasSubstr("Missing (2): \"model.layers.0.mlp.up_proj.weight\" (there is "
                      "\"model.layers.0.mlp.up_porj.weight\"), \"gone\""),
            HasSubstr("\"norm\" has shape [3], wanted for \"norm\": [4]"),
            HasSubstr("Not used by the graph (2): extra, model.layers.0.mlp.up_porj.weight"),
            HasSubstr(dir_.path())));
  EXPECT_EQ(store.data(1)[0], 0.0f);  // nothing was read
}

TEST_F(Load, WrongRowsAreNamed) {
  Tensor("a", {2, 2}, 0);
  const auto error = [&](graph::Param param) {
    const graph::Graph graph = MakeGraph({std::move(param)});
    return LoadParams(*Open(), graph, ParamStore::Allocate(graph).value()).message();
  };
  EXPECT_THAT(
      error(MakeParam("p", {3, 2}, {{.checkpoint_name = "a", .row_begin = 0, .row_end = 3}})),
      HasSubstr("from rows up to 3"));
  EXPECT_THAT(
      error(MakeParam("p", {3, 2}, {{.checkpoint_name = "a", .row_begin = 0, .row_end = 2}})),
      HasSubstr("its parts have 2 rows together, wanted 3"));
  EXPECT_THAT(error(MakeParam("p", {2, 3}, {{.checkpoint_name = "a", .transpose = true}})),
              HasSubstr("has shape [2, 2]"));
}

TEST_F(Load, KnownBuffersAndATiedHeadAreNoMistake) {
  Tensor("model.embed_tokens.weight", {2, 2}, 0);
  Tensor("lm_head.weight", {2, 2}, 0);
  Tensor("model.layers.0.self_attn.rotary_emb.inv_freq", {2}, 0);
  const graph::Graph tied = MakeGraph({MakeParam("model.embed_tokens.weight", {2, 2})});
  const auto source = Open();
  EXPECT_TRUE(LoadParams(*source, tied, ParamStore::Allocate(tied).value()).ok());
}

TEST_F(Load, AFolderWithoutWeightsSaysSo) {
  const io::TempFolder dir;
  (void)dir.Write("config.json", "{}");
  const graph::Graph graph = MakeGraph({MakeParam("a", {1})});
  EXPECT_THAT(
      LoadParams(*Source::Open(dir.path()).value(), graph, ParamStore::Allocate(graph).value())
          .message(),
      HasSubstr("there are no weights"));
}

TEST(ParamStore, HugeSizesAreRefused) {
  const graph::Graph overflow = MakeGraph({MakeParam("a", {int64_t{1} << 40, int64_t{1} << 40})});
  EXPECT_THAT(ParamStore::Allocate(overflow).status().message(), HasSubstr("overflows"));
  const graph::Graph huge = MakeGraph({MakeParam("a", {int64_t{1} << 50})});
  EXPECT_EQ(ParamStore::Allocate(huge).status().code(), Code::kResourceExhausted);
}

TEST(InitParams, DependsOnSeedAndNameAlone) {
  const auto make = [](std::vector<std::string> names, uint64_t seed, int32_t threads) {
    std::vector<graph::Param> params;
    for (std::string& name : names) {
      params.push_back(MakeParam(name, {101, 7}));
      params.back().init = RETORT_INIT_NORMAL;
      params.back().init_value = 0.02;
    }
    const graph::Graph graph = MakeGraph(params);
    const ParamStore store = ParamStore::Allocate(graph).value();
    EXPECT_TRUE(InitParams(graph, seed, store, threads).ok());
    std::vector<float> first(store.data(0), store.data(0) + 707);
    return first;
  };
  const std::vector<float> a = make({"a", "b", "c"}, 1, 1);
  EXPECT_EQ(make({"a"}, 1, 3), a);
  EXPECT_NE(make({"b"}, 1, 1), a);
  EXPECT_NE(make({"a"}, 2, 1), a);
  double sum = 0, squares = 0;
  for (float x : a) sum += x, squares += static_cast<double>(x) * x;
  EXPECT_NEAR(sum / 707, 0, 5 * 0.02 / 26.6);  // five standard errors
  EXPECT_NEAR(squares / 707, 4e-4, 5 * 4e-4 * 1.414 / 26.6);
}

}  // namespace
}  // namespace retort::model
