// layer_norm, slice, concat and products with a weight, each against central differences and
// autograd over sizes that leave every kind of rest.
// SPDX-License-Identifier: Apache-2.0
#include <ATen/ops/cat.h>
#include <ATen/ops/layer_norm.h>

#include "core/ops/ops.h"
#include "tests/unit/ops/op_check.h"

namespace retort::ops::test {
namespace {

constexpr int kThreads = 2;

using Values = std::vector<double>;

// Rows and width.
class Sizes : public testing::TestWithParam<std::pair<int64_t, int64_t>> {
 protected:
  const int64_t rows_ = GetParam().first, width_ = GetParam().second;
};
INSTANTIATE_TEST_SUITE_P(Awkward, Sizes,
                         testing::Values(std::pair{1, 1}, std::pair{5, 1}, std::pair{1, 2},
                                         std::pair{3, 13}, std::pair{7, 17}, std::pair{2, 67}));

TEST_P(Sizes, LayerNorm) {
  for (const bool with_bias : {true, false}) {
    constexpr double kEps = 1e-2;
    Array x({rows_, width_}, 1), w({width_}, 2), b({width_}, 3), dy({rows_, width_}, 4);
    Array y = Array::Zeros({rows_, width_}), stats = Array::Zeros({rows_, 2}), dx = y;
    Array dw = Array::Zeros({width_}), db = dw;
    const TensorView bias = b.view(), kept = stats.view(), none{.dtype = DType::kF64};
    const auto forward = [&] {
      LayerNormForward(x.view(), w.view(), with_bias ? &bias : nullptr, kEps, y.view(), &kept,
                       kThreads);
    };
    const auto backward = [&] {
      LayerNormBackward(dy.view(), x.view(), w.view(), kept, dx.view(), false, dw.view(),
                        with_bias ? db.view() : none, kThreads);
    };
    OpCase c{.inputs = {&x, &w},
             .grads = {&dx, &dw},
             .y = y,
             .dy = dy,
             .forward = forward,
             .backward = backward,
             .reference = [&](const std::vector<at::Tensor>& in) {
               const std::optional<at::Tensor> shift =
                   in.size() > 2 ? std::optional<at::Tensor>(in[2]) : std::nullopt;
               return at::layer_norm(in[0], {width_}, in[1], shift, kEps);
             }};
    if (with_bias) c.inputs.push_back(&b), c.grads.push_back(&db);
    CheckOp(c);
  }
}

TEST(LayerNorm, AddsOnRequestAndSkipsUnwantedParams) {
  constexpr int64_t kRows = 5, kWidth = 11;
  Array x({kRows, kWidth}, 1), w({kWidth}, 2), dy({kRows, kWidth}, 3), y = x;
  Array stats = Array::Zeros({kRows, 2}), once = Array::Zeros({kRows, kWidth}), twice = once;
  Array dw = Array::Zeros({kWidth}), dw_twice = dw;
  const TensorView kept = stats.view(), none{.dtype = DType::kF64};
  LayerNormForward(x.view(), w.view(), nullptr, 1e-5, y.view(), &kept, kThreads);
  LayerNormBackward(dy.view(), x.view(), w.view(), kept, once.view(), false, dw.view(), none, 1);
  for (const bool add : {false, true}) {
    LayerNormBackward(dy.view(), x.view(), w.view(), kept, twice.view(), add, dw_twice.view(), none,
                      kThreads);
  }
  for (double& v : once.values()) v *= 2;
  for (double& v : dw.values()) v *= 2;
  ExpectClose(twice.values(), once.values(), 1e-14, "dx");
  ExpectClose(dw_twice.values(), dw.values(), 1e-14, "dw");
  LayerNormBackward(dy.view(), x.view(), w.view(), kept, dy.view(), false, none, none, kThreads);
  for (double& v : dy.values()) v *= 2;
  ExpectClose(dy.values(), once.values(), 1e-14, "dx in the place of dy");
}

// f32, and large enough to be split over threads.
TEST(LayerNorm, F32IsCloseToF64AndTheSameForAnyThreadCount) {
  constexpr int64_t kRows = 61, kWidth = 509;
  Array x({kRows, kWidth}, 1), w({kWidth}, 2), b({kWidth}, 3), dy({kRows, kWidth}, 4);
  const auto floats = [](Array& a) {
    return std::vector<float>(a.values().begin(), a.values().end());
  };
  for (double& v : x.values()) v = 3 + 0.5 * v;  // a mean that must cancel
  const auto view = [](std::vector<float>& v, std::vector<int64_t> shape) {
    return TensorView::Contiguous(v.data(), DType::kF32, shape);
  };
  const auto wide = [&](std::vector<float>& v) { return view(v, {kRows, kWidth}); };
  const auto run = [&](int threads) {
    std::vector<float> xs = floats(x), ws = floats(w), bs = floats(b), dys = floats(dy);
    std::vector<float> y(xs.size()), dx(xs.size()), dw(ws.size()), db(ws.size());
    std::vector<float> stats(2 * kRows);
    const TensorView bias = view(bs, {kWidth}), kept = view(stats, {kRows, 2});
    LayerNormForward(wide(xs), view(ws, {kWidth}), &bias, 1e-5, wide(y), &kept, threads);
    LayerNormBackward(wide(dys), wide(xs), view(ws, {kWidth}), kept, wide(dx), false,
                      view(dw, {kWidth}), view(db, {kWidth}), threads);
    std::vector<float> all;
    for (const auto& part : {y, dx, dw, db}) all.insert(all.end(), part.begin(), part.end());
    return all;
  };
  const std::vector<float> got = run(1);
  EXPECT_EQ(run(2), got);
  EXPECT_EQ(run(3), got);
  Array y = x, dx = x, dw = Array::Zeros({kWidth}), db = dw, stats = Array::Zeros({kRows, 2});
  const TensorView bias = b.view(), kept = stats.view();
  LayerNormForward(x.view(), w.view(), &bias, 1e-5, y.view(), &kept, 1);
  LayerNormBackward(dy.view(), x.view(), w.view(), kept, dx.view(), false, dw.view(), db.view(), 1);
  Values want;
  for (Array* part : {&y, &dx, &dw, &db}) {
    want.insert(want.end(), part->values().begin(), part->values().end());
  }
  ExpectClose(Values(got.begin(), got.end()), want, 2e-5, "f32");
}

// Heads, width of a head, and the part of it that is taken.
struct Cut {
  int64_t n_heads, head, begin, end;
};
class Cuts : public testing::TestWithParam<Cut> {
 protected:
  static constexpr int64_t kRows = 3;
  const Cut cut_ = GetParam();
  const int64_t part_ = cut_.end - cut_.begin;
};
INSTANTIATE_TEST_SUITE_P(Awkward, Cuts,
                         testing::Values(Cut{1, 1, 0, 1}, Cut{1, 7, 2, 5}, Cut{3, 5, 0, 2},
                                         Cut{5, 1, 0, 1}, Cut{2, 13, 6, 13}, Cut{7, 3, 1, 2}));

TEST_P(Cuts, Slice) {
  Array x({kRows, cut_.n_heads * cut_.head}, 1), dy({kRows, cut_.n_heads * part_}, 2);
  Array y = Array::Zeros(dy.shape()), dx(x.shape(), 9);  // garbage: it is overwritten
  CheckOp(
      {.inputs = {&x},
       .grads = {&dx},
       .y = y,
       .dy = dy,
       .forward = [&] { SliceForward(x.view(), cut_.n_heads, cut_.begin, y.view(), kThreads); },
       .backward =
           [&] { SliceBackward(dy.view(), cut_.n_heads, cut_.begin, dx.view(), false, kThreads); },
       .reference =
           [&](const std::vector<at::Tensor>& in) {
             return in[0]
                 .view({kRows, cut_.n_heads, cut_.head})
                 .slice(2, cut_.begin, cut_.end)
                 .reshape({kRows, cut_.n_heads * part_});
           }});
  Array sum(x.shape(), 5);
  Values want = sum.values();
  for (size_t i = 0; i < want.size(); ++i) want[i] += dx.values()[i];
  SliceBackward(dy.view(), cut_.n_heads, cut_.begin, sum.view(), true, kThreads);
  EXPECT_EQ(sum.values(), want);
}

// One input with heads of its own, one head for all, and the first again.
TEST_P(Cuts, Concat) {
  const int64_t n = cut_.n_heads, wide = cut_.head, narrow = part_, head = 2 * wide + narrow;
  Array a({kRows, n * wide}, 1), b({kRows, narrow}, 2), dy({kRows, n * head}, 3);
  Array y = Array::Zeros(dy.shape()), da(a.shape(), 8), db(b.shape(), 9);
  const ConcatPart first{.n_heads = n}, one{.n_heads = n, .begin = wide, .repeat = true},
      again{.n_heads = n, .begin = wide + narrow};
  CheckOp(
      {.inputs = {&a, &b},
       .grads = {&da, &db},
       .y = y,
       .dy = dy,
       .forward =
           [&] {
             ConcatForward(a.view(), first, y.view(), kThreads);
             ConcatForward(b.view(), one, y.view(), kThreads);
             ConcatForward(a.view(), again, y.view(), kThreads);
           },
       .backward =
           [&] {
             ConcatBackward(dy.view(), first, da.view(), false, kThreads);
             ConcatBackward(dy.view(), one, db.view(), false, kThreads);
             ConcatBackward(dy.view(), again, da.view(), true, kThreads);
           },
       .reference =
           [&](const std::vector<at::Tensor>& in) {
             const at::Tensor heads = in[0].view({kRows, n, wide});
             const at::Tensor shared = in[1].view({kRows, 1, narrow}).expand({kRows, n, narrow});
             return at::cat({heads, shared, heads}, 2).reshape({kRows, n * head});
           }});
  Array sum(b.shape(), 5);
  Values want = sum.values();
  for (size_t i = 0; i < want.size(); ++i) want[i] += db.values()[i];
  ConcatBackward(dy.view(), one, sum.view(), true, kThreads);
  ExpectClose(sum.values(), want, 1e-14, "added");
}

TEST_P(Sizes, AddWeight) {
  Array x({rows_, width_}, 1), w({width_}, 2), dy({rows_, width_}, 3), y = Array::Zeros(x.shape());
  Array dw = Array::Zeros({width_});
  CheckOp({.inputs = {&x, &w},
           .grads = {&dy, &dw},  // dx is dy
           .y = y,
           .dy = dy,
           .forward = [&] { AddWeightForward(x.view(), w.view(), y.view(), kThreads); },
           .backward = [&] { LinearBackwardBias(dy.view(), dw.view(), kThreads); },
           .reference = [](const std::vector<at::Tensor>& in) { return in[0] + in[1]; }});
}

TEST_P(Sizes, MulWeight) {
  for (const int64_t w_size : {width_, int64_t{1}}) {
    Array x({rows_, width_}, 1), w({w_size}, 2), dy({rows_, width_}, 3);
    Array y = Array::Zeros(x.shape()), dx(x.shape(), 9), dw = Array::Zeros({w_size});
    CheckOp({.inputs = {&x, &w},
             .grads = {&dx, &dw},
             .y = y,
             .dy = dy,
             .forward = [&] { MulWeightForward(x.view(), w.view(), y.view(), kThreads); },
             .backward =
                 [&] {
                   MulWeightBackwardInput(dy.view(), w.view(), dx.view(), false, kThreads);
                   MulWeightBackwardWeight(dy.view(), x.view(), dw.view(), kThreads);
                 },
             .reference = [](const std::vector<at::Tensor>& in) { return in[0] * in[1]; }});
    Array sum(x.shape(), 5);
    Values want = sum.values(), twice = dw.values();
    for (size_t i = 0; i < want.size(); ++i) want[i] += dx.values()[i];
    for (double& v : twice) v *= 2;
    MulWeightBackwardInput(dy.view(), w.view(), sum.view(), true, kThreads);
    MulWeightBackwardWeight(dy.view(), x.view(), dw.view(), kThreads);
    ExpectClose(sum.values(), want, 1e-14, "added");
    ExpectClose(dw.values(), twice, 1e-14, "dw twice");
  }
}

TEST_P(Sizes, MulByAColumn) {
  Array a({rows_, width_}, 1), b({rows_, 1}, 2), dy({rows_, width_}, 3);
  Array y = Array::Zeros(a.shape()), da(a.shape(), 8), db(b.shape(), 9);
  CheckOp({.inputs = {&a, &b},
           .grads = {&da, &db},
           .y = y,
           .dy = dy,
           .forward = [&] { MulForward(a.view(), b.view(), y.view(), kThreads); },
           .backward =
               [&] { MulBackward(dy.view(), a.view(), b.view(), da.view(), db.view(), kThreads); },
           .reference = [](const std::vector<at::Tensor>& in) { return in[0] * in[1]; }});
}

}  // namespace
}  // namespace retort::ops::test
