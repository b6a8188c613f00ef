// Which type each weight gets, and that loading into it loses nothing but its rounding.
// SPDX-License-Identifier: Apache-2.0
#include "core/model/storage.h"

#include <gmock/gmock.h>

#include <cmath>
#include <list>

#include "core/base/rng.h"
#include "core/io/safetensors.h"
#include "core/model/packed.h"
#include "core/model/params.h"
#include "retort/abi/draft/optimizer.h"
#include "tests/unit/io/temp_folder.h"
#include "tests/unit/model/tensor_graph.h"

namespace retort::model {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

graph::Param Matrix(std::string name, std::vector<int64_t> shape,
                    std::vector<graph::Source> sources = {}) {
  graph::Param param = MakeParam(std::move(name), std::move(shape), std::move(sources));
  param.roles = param.shape.size() == 3 ? RETORT_ROLE_EXPERT : RETORT_ROLE_MATRIX;
  return param;
}

std::vector<DType> TypesOf(const graph::Graph& graph, const StorageOptions& options,
                           const Source* source = nullptr) {
  return PlanStorage(graph, options, source).dtypes;
}

TEST(Storage, NamesAreReadAndRefused) {
  for (const char* name :
       {"auto", "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q4_k", "q6_k", "nf4"}) {
    const Result<Storage> storage = ParseStorage(name);
    ASSERT_TRUE(storage.ok()) << name;
    EXPECT_EQ(StorageName(*storage), name);
  }
  const Status refused = ParseStorage("q8_1").status();
  EXPECT_EQ(refused.code(), Code::kInvalidArgument);
  EXPECT_THAT(refused.message(),
              AllOf(HasSubstr("\"q8_1\""), HasSubstr("auto, f32, f16"), HasSubstr("\"q8_0\"?")));
}

TEST(Storage, MatricesAloneGetTheType) {
  graph::Graph graph = MakeGraph({Matrix("matrix", {64, 256}), Matrix("experts", {2, 16, 64}),
                                  Matrix("embedding", {64, 64}), Matrix("norm", {64}),
                                  Matrix("router", {4, 64}), Matrix("adapter", {8, 64}),
                                  Matrix("taken", {8, 64}), MakeParam("unused", {8, 64})});
  graph.params[2].roles = RETORT_ROLE_EMBEDDING | RETORT_ROLE_HEAD;
  graph.params[3].roles = RETORT_ROLE_NORM;
  graph.params[4].roles = RETORT_ROLE_MATRIX | RETORT_ROLE_ROUTER;
  graph.params[5].adapter = 0;
  graph.values.push_back({.param = 6});  // an input of a custom op
  EXPECT_THAT(TypesOf(graph, {.storage = Storage::kQ8_0}),
              ElementsAre(DType::kQ8_0, DType::kQ8_0, DType::kQ8_0, DType::kF32, DType::kF32,
                          DType::kF32, DType::kF32, DType::kF32));
}

TEST(Storage, TrainedWeightsStayF32) {
  graph::Graph graph = MakeGraph({Matrix("trained", {64, 64}), Matrix("frozen", {64, 64})});
  graph.params[1].flags = RETORT_PARAM_FROZEN;
  const StorageOptions training{.storage = Storage::kNF4, .for_training = true};
  EXPECT_THAT(TypesOf(graph, training), ElementsAre(DType::kF32, DType::kNF4));
  graph.adapters = {"lora"};  // then the base is frozen
  EXPECT_THAT(TypesOf(graph, training), ElementsAre(DType::kNF4, DType::kNF4));
}

TEST(Storage, RowsThatBlocksDontFillFallBackAndAreNamed) {
  const graph::Graph graph =
      MakeGraph({Matrix("a", {4, 576}), Matrix("b", {4, 100}), Matrix("c", {4, 512})});
  const StoragePlan plan = PlanStorage(graph, {.storage = Storage::kQ4_K}, nullptr);
  EXPECT_THAT(plan.dtypes, ElementsAre(DType::kQ8_0, DType::kF32, DType::kQ4_K));
  EXPECT_THAT(plan.notes,
              ElementsAre(AllOf(HasSubstr("1 param is f32 instead of q4_k"), HasSubstr("256"),
                                HasSubstr("first: b")),
                          AllOf(HasSubstr("q8_0 instead of q4_k"), HasSubstr("first: a"))));
  EXPECT_THAT(PlanStorage(graph, {.storage = Storage::kBF16}, nullptr).notes, IsEmpty());
}

// A folder of safetensors with random tensors, stored as asked.
class StoredFolder : public ::testing::Test {
 protected:
  void Tensor(const std::string& name, std::vector<int64_t> shape, DType stored = DType::kF32,
              float scale = 1) {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    std::vector<float>& values = values_.emplace_back(static_cast<size_t>(n));
    Rng rng(RngKey{3, values_.size()});
    for (float& v : values) v = scale * static_cast<float>(rng.Normal());
    items_.push_back({.name = name,
                      .view = TensorView::Contiguous(values.data(), DType::kF32, shape),
                      .stored = stored});
  }
  std::unique_ptr<Source> Open() {
    (void)dir_.Write("config.json", "{}");
    EXPECT_TRUE(
        io::WriteSafetensors(io::RealFileSystem(), dir_ / "model.safetensors", items_).ok());
    return Source::Open(dir_.path()).value();
  }
  // Loaded in one type, dequantised.
  std::vector<std::vector<float>> Load(const graph::Graph& graph, Storage storage, int threads) {
    const auto source = Open();
    const StoragePlan plan = PlanStorage(graph, {.storage = storage}, source.get());
    const ParamStore store = ParamStore::Allocate(graph, plan.dtypes).value();
    const Status status = LoadParams(*source, graph, store, threads);
    EXPECT_TRUE(status.ok()) << status.ToString();
    std::vector<std::vector<float>> out;
    for (const TensorView& view : store.views()) {
      std::vector<float>& rows = out.emplace_back(static_cast<size_t>(view.numel()));
      if (view.ndim >= 2) DequantizeRows(view, 0, view.rows(), rows.data());
    }
    return out;
  }
  io::TempFolder dir_;
  std::list<std::vector<float>> values_;
  std::vector<io::SafetensorsItem> items_;
};

// The greatest error of a weight w as a share of the greatest |w| of its block: half a step of the
// code. q8_0: 1/127 steps. q4_0: the range is 16 steps of max/8, clipped by one at the far end.
// q4_1: 15 steps between min and max, at most 2 max apart. q4_k, q6_k: their scales are rounded
// again, to 6 bits of the greatest of 8 and 8 bits. nf4: half the widest gap of the code, .304,
// plus absmax in 8 bits. Scales in f16 add 2^-11, and the floats round to 11 and 8 bits.
struct Bound {
  Storage storage;
  int64_t block;
  double share;
};
constexpr Bound kBounds[] = {
    {Storage::kF32, 1, 0},        {Storage::kF16, 1, 0x1p-11}, {Storage::kBF16, 1, 0x1p-8},
    {Storage::kQ8_0, 32, 0.0045}, {Storage::kQ4_0, 32, 0.126}, {Storage::kQ4_1, 32, 0.068},
    {Storage::kQ4_K, 256, 0.12},  {Storage::kQ6_K, 256, 0.04}, {Storage::kNF4, 64, 0.16}};

void ExpectNear(const std::vector<float>& stored, const std::vector<float>& weights,
                const Bound& bound) {
  ASSERT_EQ(stored.size(), weights.size());
  for (size_t begin = 0; begin < weights.size(); begin += static_cast<size_t>(bound.block)) {
    float greatest = 0;
    for (size_t i = begin; i < begin + static_cast<size_t>(bound.block); ++i) {
      greatest = std::max(greatest, std::abs(weights[i]));
    }
    for (size_t i = begin; i < begin + static_cast<size_t>(bound.block); ++i) {
      // f16's subnormals are 2^-24 apart.
      ASSERT_LE(std::abs(stored[i] - weights[i]),
                bound.share * static_cast<double>(greatest) + 0x1p-25)
          << StorageName(bound.storage) << " element " << i;
    }
  }
}

// Plain, stacked of parts that cut through groups of rows, a slice, experts one by one (more of
// them than a group has rows), a transposed one; whatever the threads.
TEST_F(StoredFolder, EveryTypeHoldsEveryKindOfParam) {
  Tensor("plain", {70, 512}, DType::kF32, 0.3F);
  Tensor("q", {24, 256});
  Tensor("k", {9, 256});
  Tensor("whole", {40, 256});
  for (const char* name : {"x0", "x1", "x2"}) Tensor(name, {20, 256});
  Tensor("turned", {256, 33});
  const graph::Graph graph = MakeGraph(
      {Matrix("plain", {70, 512}),
       Matrix("qk", {33, 256}, {{.checkpoint_name = "q"}, {.checkpoint_name = "k"}}),
       Matrix("low", {7, 256}, {{.checkpoint_name = "whole", .row_begin = 0, .row_end = 7}}),
       Matrix("high", {33, 256}, {{.checkpoint_name = "whole", .row_begin = 7, .row_end = 40}}),
       Matrix("experts", {3, 20, 256},
              {{.checkpoint_name = "x0"}, {.checkpoint_name = "x1"}, {.checkpoint_name = "x2"}}),
       Matrix("turned", {33, 256}, {{.checkpoint_name = "turned", .transpose = true}})});
  const auto exact = Load(graph, Storage::kF32, 1);
  for (const Bound& bound : kBounds) {
    const auto one = Load(graph, bound.storage, 1), three = Load(graph, bound.storage, 3);
    ASSERT_EQ(one, three) << StorageName(bound.storage);
    for (size_t p = 0; p < one.size(); ++p) ExpectNear(one[p], exact[p], bound);
  }
  for (size_t i = 0; i < 33; ++i) EXPECT_EQ(exact[5][i * 256 + 3], (*values_.rbegin())[3 * 33 + i]);
}

TEST_F(StoredFolder, ExpertsAreMatricesOfTheirOwn) {
  Tensor("stack", {3, 20, 64});
  const graph::Graph graph = MakeGraph({Matrix("stack", {3, 20, 64})});
  const auto source = Open();
  for (const Storage storage : {Storage::kQ8_0, Storage::kBF16, Storage::kNF4}) {
    const StoragePlan plan = PlanStorage(graph, {.storage = storage}, nullptr);
    const ParamStore store = ParamStore::Allocate(graph, plan.dtypes).value();
    ASSERT_TRUE(LoadParams(*source, graph, store, 2).ok());
    std::vector<float> all(3 * 20 * 64), one(20 * 64);
    DequantizeRows(store.view(0), 0, 60, all.data());
    for (int64_t e = 0; e < 3; ++e) {
      const retort_packed_matrix expert = PackedMatrix(store.view(0), e);
      ASSERT_EQ(expert.rows, 20);
      retort_packed_rows_f32(&expert, 0, 20, one.data(), 64);
      EXPECT_TRUE(std::equal(one.begin(), one.end(), all.begin() + e * 20 * 64)) << e;
    }
  }
}

TEST_F(StoredFolder, AutoKeepsTheTypesOfTheFile) {
  Tensor("half", {4, 64}, DType::kF16);
  Tensor("brain", {4, 64}, DType::kBF16);
  Tensor("full", {4, 64});
  Tensor("norm", {64}, DType::kBF16);
  graph::Graph graph = MakeGraph(
      {Matrix("half", {4, 64}), Matrix("brain", {4, 64}), Matrix("full", {4, 64}),
       Matrix("norm", {64}),
       Matrix("both", {8, 64}, {{.checkpoint_name = "half"}, {.checkpoint_name = "full"}})});
  graph.params[3].roles = RETORT_ROLE_NORM;
  const auto source = Open();
  const StoragePlan plan = PlanStorage(graph, {.storage = Storage::kAuto}, source.get());
  EXPECT_THAT(plan.dtypes,
              ElementsAre(DType::kF16, DType::kBF16, DType::kF32, DType::kF32, DType::kF32));
  EXPECT_THAT(plan.notes, ElementsAre(HasSubstr("first: both")));
  EXPECT_THAT(TypesOf(graph, {.storage = Storage::kAuto, .for_training = true}, source.get()),
              Each(DType::kF32));
  EXPECT_THAT(TypesOf(graph, {.storage = Storage::kAuto}), Each(DType::kF32));
}

TEST_F(StoredFolder, TheBytesAreThoseOfTheTypes) {
  const graph::Graph graph =
      MakeGraph({Matrix("a", {48, 256}), Matrix("norm", {5}), Matrix("x", {3, 16, 64})});
  struct Expected {
    Storage storage;
    int64_t per_256;  // bytes of 256 weights in the file's blocks
  };
  for (const Expected& e : {Expected{Storage::kQ8_0, 8 * 34}, Expected{Storage::kQ4_0, 8 * 18},
                            Expected{Storage::kQ4_1, 8 * 20}, Expected{Storage::kBF16, 512}}) {
    const StoragePlan plan = PlanStorage(graph, {.storage = e.storage}, nullptr);
    const ParamStore store = ParamStore::Allocate(graph, plan.dtypes).value();
    EXPECT_EQ(store.bytes(), (48 + 3 * 16 / 4) * e.per_256 + 64) << StorageName(e.storage);
    int64_t reported = 0;
    for (const auto& part : ReportStorage(graph, plan).parts) reported += part.bytes;
    EXPECT_EQ(reported, store.bytes() - 64 + 20);
    for (const TensorView& view : store.views()) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(view.data) % 64, 0u);
    }
  }
}

TEST_F(StoredFolder, WhatATypeCannotHoldIsRefused) {
  Tensor("w", {16, 64});
  values_.back()[5] = 70000;
  const graph::Graph graph = MakeGraph({Matrix("w", {16, 64})});
  const auto source = Open();
  const auto load = [&](Storage storage) {
    const StoragePlan plan = PlanStorage(graph, {.storage = storage}, source.get());
    return LoadParams(*source, graph, ParamStore::Allocate(graph, plan.dtypes).value());
  };
  EXPECT_THAT(load(Storage::kF16).message(),
              AllOf(HasSubstr("\"w\""), HasSubstr("element 5"), HasSubstr("too large for f16"),
                    HasSubstr("bf16")));
  EXPECT_TRUE(load(Storage::kBF16).ok());
  values_.back()[5] = INFINITY;
  EXPECT_EQ(
      LoadParams(*Open(), graph, ParamStore::Allocate(graph, std::vector{DType::kQ8_0}).value())
          .code(),
      Code::kDataLoss);
}

}  // namespace
}  // namespace retort::model
