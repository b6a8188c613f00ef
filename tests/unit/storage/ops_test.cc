// Products with stored weights against sums in f64 over the same weights.
// SPDX-License-Identifier: Apache-2.0
#include "core/ops/ops.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/base/rng.h"
#include "core/model/packed.h"
#include "core/model/params.h"

namespace retort::ops {
namespace {

constexpr DType kTypes[] = {DType::kF16,  DType::kBF16, DType::kQ8_0, DType::kQ4_0,
                            DType::kQ4_1, DType::kQ4_K, DType::kQ6_K, DType::kNF4};
constexpr int64_t kOut = 37, kIn = 512;
constexpr int kThreads = 2;

std::vector<float> Random(int64_t n, uint64_t seed) {
  std::vector<float> values(static_cast<size_t>(n));
  Rng rng(RngKey{seed, 1});
  for (float& v : values) v = static_cast<float>(rng.Normal());
  return values;
}

TensorView View(std::vector<float>& values, int64_t rows, int64_t cols) {
  return TensorView::Contiguous(values.data(), DType::kF32, {rows, cols});
}

// A weight [kOut, kIn] in a store of its own.
struct Weight {
  explicit Weight(DType dtype) {
    graph::Param param;
    param.name = "w";
    param.shape = {kOut, kIn};
    param.init = RETORT_INIT_NORMAL;
    param.init_value = 1;
    graph.params.push_back(param);
    store = model::ParamStore::Allocate(graph, std::vector{dtype}).value();
    EXPECT_TRUE(model::InitParams(graph, 1, store).ok());
    values.resize(static_cast<size_t>(kOut * kIn));
    model::DequantizeRows(store.view(0), 0, kOut, values.data());
  }
  float At(int64_t o, int64_t i) const { return values[static_cast<size_t>(o * kIn + i)]; }
  graph::Graph graph;
  model::ParamStore store;
  std::vector<float> values;
};

// |error| of an f32 sum of n products of numbers around 1, with room for its order.
constexpr double kSumError = 512 * 0x1p-24 * 8;

TEST(StoredLinear, ExactForwardEqualsSumsInF64) {
  for (const DType dtype : kTypes) {
    const Weight w(dtype);
    for (const int64_t rows : {1, 16, 17, 50}) {
      auto x = Random(rows * kIn, 2), y = Random(rows * kOut, 3), bias = Random(kOut, 4);
      const auto b = TensorView::Contiguous(bias.data(), DType::kF32, {kOut});
      LinearForward(View(x, rows, kIn), w.store.view(0), &b, View(y, rows, kOut), kThreads,
                    /*exact=*/true);
      for (int64_t t = 0; t < rows; ++t) {
        for (int64_t o = 0; o < kOut; ++o) {
          double sum = static_cast<double>(bias[static_cast<size_t>(o)]);
          for (int64_t i = 0; i < kIn; ++i) {
            sum += static_cast<double>(x[static_cast<size_t>(t * kIn + i)]) *
                   static_cast<double>(w.At(o, i));
          }
          ASSERT_NEAR(static_cast<double>(y[static_cast<size_t>(t * kOut + o)]), sum, kSumError)
              << DTypeName(dtype) << " " << rows << " rows: " << t << ", " << o;
        }
      }
    }
  }
}

TEST(StoredLinear, BackwardInputAddsOrOverwrites) {
  for (const DType dtype : kTypes) {
    const Weight w(dtype);
    for (const int64_t rows : {1, 16, 50}) {
      auto dy = Random(rows * kOut, 5), dx = Random(rows * kIn, 6);
      const auto before = dx;
      for (const bool accumulate : {true, false}) {
        dx = before;
        LinearBackwardInput(View(dy, rows, kOut), w.store.view(0), View(dx, rows, kIn), accumulate,
                            kThreads);
        for (int64_t t = 0; t < rows; ++t) {
          for (int64_t i = 0; i < kIn; ++i) {
            const auto at = static_cast<size_t>(t * kIn + i);
            double sum = accumulate ? static_cast<double>(before[at]) : 0;
            for (int64_t o = 0; o < kOut; ++o) {
              sum += static_cast<double>(dy[static_cast<size_t>(t * kOut + o)]) *
                     static_cast<double>(w.At(o, i));
            }
            ASSERT_NEAR(static_cast<double>(dx[at]), sum, kSumError)
                << DTypeName(dtype) << " " << rows << " rows: " << t << ", " << i;
          }
        }
      }
    }
  }
}

TEST(StoredLinear, ARowOfFewDoesNotDependOnItsNeighbours) {
  for (const DType dtype : kTypes) {
    const Weight w(dtype);
    auto x = Random(kSkinnyRows * kIn, 7), all = Random(kSkinnyRows * kOut, 8);
    LinearForward(View(x, kSkinnyRows, kIn), w.store.view(0), nullptr, View(all, kSkinnyRows, kOut),
                  kThreads);
    std::vector<float> one(static_cast<size_t>(kOut));
    for (int64_t t = 0; t < kSkinnyRows; ++t) {
      LinearForward(View(x, kSkinnyRows, kIn).Rows(t, t + 1), w.store.view(0), nullptr,
                    View(one, 1, kOut), kThreads);
      ASSERT_TRUE(std::equal(one.begin(), one.end(), all.begin() + t * kOut))
          << DTypeName(dtype) << " row " << t;
    }
  }
}

TEST(StoredEmbed, GivesTheRowsOfTheTable) {
  const std::vector<int32_t> ids = {36, 0, 5, 5, 17};
  for (const DType dtype : kTypes) {
    const Weight table(dtype);
    std::vector<float> y(ids.size() * static_cast<size_t>(kIn));
    EmbedForward(table.store.view(0), ids, 3, View(y, 5, kIn), kThreads);
    for (size_t t = 0; t < ids.size(); ++t) {
      for (int64_t i = 0; i < kIn; ++i) {
        ASSERT_FLOAT_EQ(y[t * static_cast<size_t>(kIn) + static_cast<size_t>(i)],
                        3 * table.At(ids[t], i))
            << DTypeName(dtype);
      }
    }
  }
}

TEST(StoredLinear, RowsInF64AreRefused) {
  const Weight w(DType::kQ8_0);
  std::vector<double> x(static_cast<size_t>(kIn)), y(static_cast<size_t>(kOut));
  EXPECT_THROW(
      LinearForward(TensorView::Contiguous(x.data(), DType::kF64, {1, kIn}), w.store.view(0),
                    nullptr, TensorView::Contiguous(y.data(), DType::kF64, {1, kOut}), 1),
      Error);
}

}  // namespace
}  // namespace retort::ops
