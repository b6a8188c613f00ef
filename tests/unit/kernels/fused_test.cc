// Kernels that do the work of others in one pass: their bits are those of the others.
// SPDX-License-Identifier: Apache-2.0
#include "retort/kernels/activation.h"
#include "retort/kernels/norm.h"
#include "retort/kernels/optimizer.h"
#include "tests/unit/kernels/kernel_testing.h"

namespace retort::kernels {
namespace {

template <class S>
std::vector<S> Copy(std::span<const S> from) {
  return std::vector<S>(from.begin(), from.end());
}

void CheckNorm(int64_t rows, int64_t groups, int64_t cols, int accumulate, bool wants_dw) {
  const retort_norm_shape shape = {
      .rows = rows, .groups = groups, .cols = cols, .eps = 1e-5, .offset = 0.5};
  const int64_t n = rows * groups * cols;
  const auto x = Random<float>(n, 1), dy = Random<float>(n, 2), w = Random<float>(cols, 3);
  std::vector<float> y(x.size()), rstd(size_t(rows * groups));
  retort_rms_norm_f32(&shape, x.data(), 0, w.data(), y.data(), 0, rstd.data(), 1);
  std::vector<float> dx = Random<float>(n, 4), dw = Random<float>(cols, 5);
  for (int threads : {1, 2, 3}) {
    Guarded<float> fused_dx(dx), fused_dw(dw);
    Guarded<float> scratch(retort_rms_norm_scratch_f32(&shape) / 4, NAN);
    retort_rms_norm_backward_fused_f32(
        &shape, dy.data(), 0, x.data(), 0, w.data(), rstd.data(), fused_dx.data(), 0, accumulate,
        wants_dw ? fused_dw.data() : nullptr, scratch.data(), threads);
    std::vector<float> want_dx = dx, want_dw = dw;
    retort_rms_norm_backward_f32(&shape, dy.data(), 0, x.data(), 0, w.data(), rstd.data(),
                                 want_dx.data(), 0, accumulate, wants_dw ? want_dw.data() : nullptr,
                                 1);
    ASSERT_EQ(Copy(fused_dx.view()), want_dx) << rows << " x " << groups << " x " << cols;
    ASSERT_EQ(Copy(fused_dw.view()), want_dw) << rows << " x " << groups << " x " << cols;
  }
}

TEST(NormBackwardFused, GivesTheBitsOfTheSeparatePasses) {
  ForEachLevel([] {
    for (int64_t cols : {1, 15, 16, 33, 97, 576}) {
      for (int64_t rows : {1, 63, 64, 65, 200}) CheckNorm(rows, 1, cols, 1, true);
      CheckNorm(50, 3, cols, 0, true);
      CheckNorm(70, 2, cols, 1, false);
    }
  });
}

TEST(NormBackwardFused, MayWriteOverItsInputGradient) {
  ForEachLevel([] {
    const retort_norm_shape shape = {.rows = 70, .groups = 1, .cols = 97, .eps = 1e-5, .offset = 0};
    const auto x = Random<float>(70 * 97, 1), w = Random<float>(97, 2);
    const std::vector<float> rstd(70, 0.9f);
    std::vector<float> dy = Random<float>(70 * 97, 3), dx(dy.size()), dw(97), dw_in_place(97);
    std::vector<float> scratch(2 * 97);
    const auto run = [&](float* to, float* sum) {
      retort_rms_norm_backward_fused_f32(&shape, dy.data(), 0, x.data(), 0, w.data(), rstd.data(),
                                         to, 0, 0, sum, scratch.data(), 2);
    };
    run(dx.data(), dw.data());
    run(dy.data(), dw_in_place.data());
    EXPECT_EQ(dx, dy);
    EXPECT_EQ(dw, dw_in_place);
  });
}

TEST(GatedBackwardAgain, GivesTheGradientsAndTheProductInPlace) {
  ForEachLevel([] {
    for (int kind : {RETORT_KERNELS_SILU, RETORT_KERNELS_GELU, RETORT_KERNELS_GELU_TANH}) {
      for (int64_t cols : kSizes) {
        const retort_gated_shape shape = {.rows = 3,
                                          .cols = cols,
                                          .in_stride = cols + 2,
                                          .out_stride = 0,
                                          .kind = kind,
                                          .reserved = 0};
        std::vector<float> gate = Random<float>(3 * (cols + 2), 1),
                           up = Random<float>(3 * (cols + 2), 2);
        std::vector<float> dy = Random<float>(3 * cols, 3), product(dy.size());
        std::vector<float> d_gate = gate, d_up = up;
        retort_gated_f32(&shape, gate.data(), up.data(), product.data(), 1);
        retort_gated_backward_f32(&shape, gate.data(), up.data(), dy.data(), d_gate.data(),
                                  d_up.data(), 1);
        retort_gated_backward_again_f32(&shape, gate.data(), up.data(), dy.data(), gate.data(),
                                        up.data(), dy.data(), 2);
        ASSERT_EQ(gate, d_gate);
        ASSERT_EQ(up, d_up);
        ASSERT_EQ(dy, product);
      }
    }
  });
}

// Tensors of all sizes, empty ones among them, in two groups.
TEST(AdamWList, GivesTheBitsOfOneTensorAtATime) {
  ForEachLevel([] {
    const int64_t sizes[] = {1, 0, 1023, 1024, 1025, 7, 40000, 0, 3, 20001};
    const retort_adamw_params groups[] = {{.learning_rate = 1e-2,
                                           .beta1 = 0.9,
                                           .beta2 = 0.99,
                                           .eps = 1e-8,
                                           .weight_decay = 0.1,
                                           .bias_correction1 = 0.1,
                                           .bias_correction2 = 0.01,
                                           .grad_scale = 0.5},
                                          {.learning_rate = 3e-2,
                                           .beta1 = 0.8,
                                           .beta2 = 0.95,
                                           .eps = 1e-6,
                                           .weight_decay = 0,
                                           .bias_correction1 = 0.2,
                                           .bias_correction2 = 0.05,
                                           .grad_scale = 1}};
    for (int threads : {1, 2, 3, 7}) {
      std::vector<std::vector<float>> p, m, v, grad, want_p, want_m, want_v;
      for (int64_t n : sizes) {
        p.push_back(Random<float>(n, 1));
        m.push_back(Random<float>(n, 2));
        v.push_back(std::vector<float>(size_t(n), 0.3f));
        grad.push_back(Random<float>(n, 3));
      }
      want_p = p, want_m = m, want_v = v;
      std::vector<retort_adamw_tensor_f32> list;
      for (size_t i = 0; i < p.size(); ++i) {
        const int64_t n = sizes[i];
        const retort_adamw_params* group = &groups[i % 2];
        retort_adamw_f32(group, want_p[i].data(), grad[i].data(), want_m[i].data(),
                         want_v[i].data(), n, 1);
        list.push_back({.p = p[i].data(),
                        .grad = grad[i].data(),
                        .m = m[i].data(),
                        .v = v[i].data(),
                        .n = n,
                        .params = group});
      }
      retort_adamw_list_f32(list.data(), int64_t(list.size()), threads);
      EXPECT_EQ(p, want_p);
      EXPECT_EQ(m, want_m);
      EXPECT_EQ(v, want_v);
    }
  });
}

TEST(SumSquaresList, GivesTheBitsOfOneTensorAtATime) {
  ForEachLevel([] {
    std::vector<std::vector<float>> x;
    std::vector<retort_tensor_f32> list;
    for (int64_t i = 0; i < 37; ++i) x.push_back(Random<float>(i * i * 97 % 30011, uint32_t(i)));
    for (const auto& tensor : x) list.push_back({tensor.data(), int64_t(tensor.size())});
    for (int threads : {1, 2, 3}) {
      Guarded<double> sums(int64_t(list.size()), NAN);
      retort_sum_squares_list_f32(list.data(), int64_t(list.size()), sums.data(), threads);
      for (size_t i = 0; i < x.size(); ++i) {
        EXPECT_EQ(sums.view()[i], retort_sum_squares_f32(x[i].data(), int64_t(x[i].size()), 1));
      }
    }
  });
}

}  // namespace
}  // namespace retort::kernels
