// SPDX-License-Identifier: Apache-2.0
#include "core/ops/ops.h"

#include <ATen/ops/embedding.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/stack.h>

#include "core/graph/rope.h"
#include "core/ops/gemm.h"
#include "tests/unit/ops/op_check.h"

namespace retort::ops::test {
namespace {

constexpr int kThreads = 2;
constexpr int64_t kRows = 5;

TEST(EmbedBackward, AddsRowsOfRepeatedIds) {
  const std::vector<int32_t> ids = {3, 0, 3, 6, 3};
  Array table({7, 4}, 1), y = Array::Zeros({kRows, 4}), dy({kRows, 4}, 2),
                          d_table = Array::Zeros({7, 4});
  CheckOp({.inputs = {&table},
           .grads = {&d_table},
           .y = y,
           .dy = dy,
           .forward = [&] { EmbedForward(table.view(), ids, 1.5, y.view(), kThreads); },
           .backward = [&] { EmbedBackward(dy.view(), ids, 1.5, d_table.view(), kThreads); },
           .reference =
               [&](const std::vector<at::Tensor>& in) {
                 at::Tensor index = at::from_blob(const_cast<int32_t*>(ids.data()), {kRows},
                                                  at::TensorOptions().dtype(at::kInt));
                 return at::embedding(in[0], index) * 1.5;
               }});
}

TEST(LinearBackward, GivesInputWeightAndBiasGradients) {
  Array x({kRows, 6}, 1), w({3, 6}, 2), b({3}, 3), y = Array::Zeros({kRows, 3}), dy({kRows, 3}, 4);
  Array dx = Array::Zeros({kRows, 6}), dw = Array::Zeros({3, 6}), db = Array::Zeros({3});
  CheckOp({.inputs = {&x, &w, &b},
           .grads = {&dx, &dw, &db},
           .y = y,
           .dy = dy,
           .forward =
               [&] {
                 const TensorView bias = b.view();
                 LinearForward(x.view(), w.view(), &bias, y.view(), kThreads);
               },
           .backward =
               [&] {
                 LinearBackwardInput(dy.view(), w.view(), dx.view(), false);
                 LinearBackwardWeight(dy.view(), x.view(), dw.view(), false);
                 LinearBackwardBias(dy.view(), db.view(), kThreads);
               },
           .reference =
               [](const std::vector<at::Tensor>& in) { return in[0].matmul(in[1].t()) + in[2]; }});
}

TEST(LinearBackward, AccumulatesOnRequest) {
  Array x({kRows, 6}, 1), w({3, 6}, 2), dy({kRows, 3}, 4);
  Array once = Array::Zeros({3, 6}), twice = Array::Zeros({3, 6}), dx({kRows, 6}, 9);
  const std::vector<double> before = dx.values();
  LinearBackwardWeight(dy.view(), x.view(), once.view(), false);
  LinearBackwardWeight(dy.view(), x.view(), twice.view(), false);
  LinearBackwardWeight(dy.view(), x.view(), twice.view(), true);
  LinearBackwardInput(dy.view(), w.view(), dx.view(), true);
  for (size_t i = 0; i < once.values().size(); ++i) {
    EXPECT_NEAR(twice.values()[i], 2 * once.values()[i], 1e-12);
  }
  Array fresh = Array::Zeros({kRows, 6});
  LinearBackwardInput(dy.view(), w.view(), fresh.view(), false);
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_NEAR(dx.values()[i], before[i] + fresh.values()[i], 1e-12);
  }
}

TEST(LinearForward, ARowOfFewDoesNotDependOnItsNeighbours) {
  constexpr int64_t kIn = 77, kOut = 50, kMany = kSkinnyRows;
  std::vector<float> x(kMany * kIn), w(kOut * kIn), many(kMany * kOut), alone(kOut);
  Rng rng(RngKey{0, 5});
  for (float& v : x) v = static_cast<float>(rng.Normal());
  for (float& v : w) v = static_cast<float>(rng.Normal());
  const auto view = [](std::vector<float>& v, int64_t rows, int64_t cols) {
    return TensorView::Contiguous(v.data(), DType::kF32, {rows, cols});
  };
  LinearForward(view(x, kMany, kIn), view(w, kOut, kIn), nullptr, view(many, kMany, kOut), 2);
  for (int64_t r = 0; r < kMany; ++r) {
    LinearForward(view(x, kMany, kIn).Rows(r, r + 1), view(w, kOut, kIn), nullptr,
                  view(alone, 1, kOut), 1);
    for (int64_t o = 0; o < kOut; ++o) {
      ASSERT_EQ(alone[static_cast<size_t>(o)], many[static_cast<size_t>(r * kOut + o)]);
    }
  }
  std::vector<float> blas(kMany * kOut);
  Gemm(view(x, kMany, kIn), Transpose::kNo, view(w, kOut, kIn), Transpose::kYes,
       view(blas, kMany, kOut), false);
  for (size_t i = 0; i < blas.size(); ++i) ASSERT_NEAR(many[i], blas[i], 1e-4);
}

void CheckNorm(int64_t groups, double offset) {
  const int64_t part = 4, width = groups * part;
  const NormSpec spec{.groups = groups, .eps = 1e-3, .weight_offset = offset};
  Array x({kRows, width}, 1), w({part}, 2), y = Array::Zeros({kRows, width}), dy({kRows, width}, 3),
                                            rstd = Array::Zeros({kRows, groups});
  Array dx = Array::Zeros({kRows, width}), dw = Array::Zeros({part});
  CheckOp({.inputs = {&x, &w},
           .grads = {&dx, &dw},
           .y = y,
           .dy = dy,
           .forward =
               [&] {
                 const TensorView r = rstd.view();
                 NormForward(spec, x.view(), w.view(), y.view(), &r, kThreads);
               },
           .backward =
               [&] {
                 NormBackward(spec, dy.view(), x.view(), w.view(), rstd.view(), dx.view(), false,
                              dw.view(), kThreads);
               },
           .reference =
               [&](const std::vector<at::Tensor>& in) {
                 const at::Tensor parts = in[0].view({kRows, groups, part});
                 const at::Tensor mean = (parts * parts).mean(-1, /*keepdim=*/true);
                 return (parts * (mean + 1e-3).rsqrt() * (in[1] + offset)).view({kRows, width});
               }});
}

TEST(RmsNormBackward, MatchesDefinition) { CheckNorm(1, 0); }
TEST(RmsNormBackward, MatchesDefinitionWithWeightOffset) { CheckNorm(1, 1); }
TEST(HeadNormBackward, NormsEachHeadAlone) { CheckNorm(3, 0); }

TEST(AddNormForward, EqualsAddThenNorm) {
  const NormSpec spec{.eps = 1e-5};
  Array a({kRows, 8}, 1), b({kRows, 8}, 2), w({8}, 3);
  Array sum = Array::Zeros({kRows, 8}), y = sum, sum_plain = sum, y_plain = sum,
        rstd = Array::Zeros({kRows, 1}), rstd_plain = rstd;
  const TensorView r = rstd.view(), r_plain = rstd_plain.view();
  AddNormForward(spec, a.view(), b.view(), w.view(), sum.view(), y.view(), &r, kThreads);
  AddForward(a.view(), b.view(), sum_plain.view(), kThreads);
  NormForward(spec, sum_plain.view(), w.view(), y_plain.view(), &r_plain, kThreads);
  ExpectClose(sum.values(), sum_plain.values(), 1e-15, "sum");
  ExpectClose(y.values(), y_plain.values(), 1e-14, "norm");
  ExpectClose(rstd.values(), rstd_plain.values(), 1e-14, "rstd");
}

// Rotation by complex numbers, pair by pair.
at::Tensor RopeReference(const graph::Node& node, const std::vector<int32_t>& positions,
                         const at::Tensor& x) {
  const int64_t head_dim = x.size(1) / node.n_heads, rotary = node.rope.rotary_dim;
  const auto table = graph::MakeRopeTable(node.rope);
  std::vector<at::Tensor> columns;
  for (int64_t c = 0; c < x.size(1); ++c) columns.push_back(x.select(1, c));
  std::vector<at::Tensor> out = columns;
  for (int64_t h = 0; h < node.n_heads; ++h) {
    for (int64_t j = 0; j < rotary / 2; ++j) {
      const bool halves = node.rope.layout == RETORT_ROPE_HALVES;
      const auto first = static_cast<size_t>(h * head_dim + (halves ? j : 2 * j));
      const auto second = halves ? first + static_cast<size_t>(rotary / 2) : first + 1;
      std::vector<double> angles;
      for (int32_t p : positions) angles.push_back(p * table->inv_freq[static_cast<size_t>(j)]);
      const at::Tensor angle = at::from_blob(angles.data(), {static_cast<int64_t>(angles.size())},
                                             at::TensorOptions().dtype(at::kDouble))
                                   .clone();
      out[first] = columns[first] * angle.cos() - columns[second] * angle.sin();
      out[second] = columns[second] * angle.cos() + columns[first] * angle.sin();
    }
  }
  return at::stack(out, 1);
}

void CheckRope(uint32_t layout, int64_t rotary_dim) {
  const std::vector<int32_t> positions = {0, 1, 2, 0, 7};
  graph::Node node{.op = graph::Op::kRope, .n_heads = 2};
  node.rope = {.layout = layout, .rotary_dim = rotary_dim, .max_positions = 64, .theta = 100};
  RopeAngles angles(node.rope, DType::kF64);
  const std::vector<int32_t> few = {3}, one = {0, 1}, five = {0, 5};
  angles.Cover(few, one, {});
  angles.Cover(positions, five, {});  // growing keeps what was there
  Array x({kRows, 16}, 1), y = Array::Zeros({kRows, 16}), dy({kRows, 16}, 2), dx = y;
  CheckOp(
      {.inputs = {&x},
       .grads = {&dx},
       .y = y,
       .dy = dy,
       .forward =
           [&] { Rope(node, angles, Rotation::kForward, positions, x.view(), y.view(), kThreads); },
       .backward =
           [&] {
             Rope(node, angles, Rotation::kBackward, positions, dy.view(), dx.view(), kThreads);
           },
       .reference =
           [&](const std::vector<at::Tensor>& in) {
             return RopeReference(node, positions, in[0]);
           }});
}

TEST(RopeBackward, RotatesHalves) { CheckRope(RETORT_ROPE_HALVES, 8); }
TEST(RopeBackward, RotatesInterleavedPairs) { CheckRope(RETORT_ROPE_INTERLEAVED, 8); }
TEST(RopeBackward, LeavesDimensionsBeyondRotaryDim) { CheckRope(RETORT_ROPE_HALVES, 4); }

at::Tensor ActivationReference(uint32_t kind, const at::Tensor& x) {
  switch (kind) {
    case RETORT_ACTIVATION_SILU: return at::silu(x);
    case RETORT_ACTIVATION_GELU: return at::gelu(x);
    case RETORT_ACTIVATION_GELU_TANH: return at::gelu(x, "tanh");
    case RETORT_ACTIVATION_RELU2: return x.relu() * x.relu();
    default: return at::sigmoid(x);
  }
}

class ActivationTest : public testing::TestWithParam<uint32_t> {};
INSTANTIATE_TEST_SUITE_P(AllKinds, ActivationTest, testing::Range(0U, 5U));

TEST_P(ActivationTest, BackwardMatchesDefinition) {
  Array x({kRows, 6}, 1), y = Array::Zeros({kRows, 6}), dy({kRows, 6}, 2), dx = y;
  CheckOp({.inputs = {&x},
           .grads = {&dx},
           .y = y,
           .dy = dy,
           .forward = [&] { ActivationForward(GetParam(), x.view(), y.view(), kThreads); },
           .backward =
               [&] { ActivationBackward(GetParam(), dy.view(), x.view(), dx.view(), kThreads); },
           .reference =
               [](const std::vector<at::Tensor>& in) {
                 return ActivationReference(GetParam(), in[0]);
               }});
}

TEST_P(ActivationTest, GatedBackwardMatchesDefinition) {
  Array gate({kRows, 6}, 1), up({kRows, 6}, 2), y = Array::Zeros({kRows, 6}), dy({kRows, 6}, 3);
  Array d_gate = y, d_up = y;
  CheckOp({.inputs = {&gate, &up},
           .grads = {&d_gate, &d_up},
           .y = y,
           .dy = dy,
           .forward = [&] { GatedForward(GetParam(), gate.view(), up.view(), y.view(), kThreads); },
           .backward =
               [&] {
                 GatedBackward(GetParam(), dy.view(), gate.view(), up.view(), d_gate.view(),
                               d_up.view(), kThreads);
               },
           .reference =
               [](const std::vector<at::Tensor>& in) {
                 return ActivationReference(GetParam(), in[0]) * in[1];
               }});
}

void CheckMul(int64_t b_width) {
  Array a({kRows, 6}, 1), b({kRows, b_width}, 2), y = Array::Zeros({kRows, 6}), dy({kRows, 6}, 3);
  Array da = y, db = Array::Zeros({kRows, b_width});
  CheckOp({.inputs = {&a, &b},
           .grads = {&da, &db},
           .y = y,
           .dy = dy,
           .forward = [&] { MulForward(a.view(), b.view(), y.view(), kThreads); },
           .backward =
               [&] { MulBackward(dy.view(), a.view(), b.view(), da.view(), db.view(), kThreads); },
           .reference = [](const std::vector<at::Tensor>& in) { return in[0] * in[1]; }});
}

TEST(MulBackward, MatchesDefinition) { CheckMul(6); }
TEST(MulBackward, SumsOverABroadcastColumn) { CheckMul(1); }

}  // namespace
}  // namespace retort::ops::test
