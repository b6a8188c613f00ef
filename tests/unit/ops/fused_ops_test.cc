// Ops that do the work of two: they give what the two give.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <vector>

#include "core/base/rng.h"
#include "core/ops/ops.h"

namespace retort::ops {
namespace {

std::vector<double> Random(int64_t n, uint64_t seed) {
  std::vector<double> v(static_cast<size_t>(n));
  Rng rng(RngKey{0, seed});
  for (double& x : v) x = rng.Normal();
  return v;
}
TensorView View(std::vector<double>& v, int64_t rows) {
  return TensorView::Contiguous(v.data(), DType::kF64,
                                {rows, static_cast<int64_t>(v.size()) / rows});
}

TEST(AddNormBackward, GivesWhatNormBackwardGives) {
  const NormSpec spec{.groups = 1, .eps = 1e-5, .weight_offset = 1};
  std::vector<double> x = Random(70 * 9, 1), dy = Random(70 * 9, 2), w = Random(9, 3);
  std::vector<double> rstd(70, 0.8), dx = Random(70 * 9, 4), dw = Random(9, 5);
  std::vector<double> want_dx = dx, want_dw = dw;
  Workspace workspace;
  AddNormBackward(spec, View(dy, 70), View(x, 70), View(w, 1), View(rstd, 70), View(dx, 70),
                  /*accumulate=*/true, View(dw, 1), workspace, 2);
  NormBackward(spec, View(dy, 70), View(x, 70), View(w, 1), View(rstd, 70), View(want_dx, 70),
               /*accumulate=*/true, View(want_dw, 1), 1);
  EXPECT_EQ(dx, want_dx);
  EXPECT_EQ(dw, want_dw);
}

TEST(GatedBackwardAgain, GivesGradientsAndProductOfEveryKind) {
  for (uint32_t kind : {RETORT_ACTIVATION_SILU, RETORT_ACTIVATION_GELU, RETORT_ACTIVATION_GELU_TANH,
                        RETORT_ACTIVATION_RELU2, RETORT_ACTIVATION_SIGMOID}) {
    std::vector<double> gate = Random(35, 1), up = Random(35, 2), dy = Random(35, 3);
    std::vector<double> product(35), d_gate(35), d_up(35);
    GatedForward(kind, View(gate, 5), View(up, 5), View(product, 5), 1);
    GatedBackward(kind, View(dy, 5), View(gate, 5), View(up, 5), View(d_gate, 5), View(d_up, 5), 1);
    GatedBackwardAgain(kind, View(dy, 5), View(gate, 5), View(up, 5), View(gate, 5), View(up, 5),
                       View(dy, 5), 1);
    EXPECT_EQ(gate, d_gate) << kind;
    EXPECT_EQ(up, d_up) << kind;
    EXPECT_EQ(dy, product) << kind;
  }
}

TEST(Workspace, KeepsItsMemoryForSmallerCalls) {
  Workspace workspace;
  void* const p = workspace.Reserve(1000);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 64, 0);
  EXPECT_EQ(workspace.Reserve(64), p);
  EXPECT_EQ(workspace.bytes(), 1024);
  EXPECT_NE(workspace.Reserve(4096), nullptr);
  EXPECT_EQ(workspace.bytes(), 4096);
}

}  // namespace
}  // namespace retort::ops
