// Skinny GEMM: values, and that they do not depend on their company.
// SPDX-License-Identifier: Apache-2.0
#include "retort/kernels/gemm.h"

#include "tests/unit/kernels/kernel_testing.h"

namespace retort::kernels {
namespace {

template <class S>
std::vector<double> NaiveGemm(int64_t m, int64_t o, int64_t i, const std::vector<S>& x,
                              const std::vector<S>& w, const std::vector<S>& bias) {
  std::vector<double> y;
  for (int64_t r = 0; r < m; ++r) {
    for (int64_t c = 0; c < o; ++c) {
      double sum = double(bias[size_t(c)]);
      for (int64_t k = 0; k < i; ++k)
        sum += double(x[size_t(r * i + k)]) * double(w[size_t(c * i + k)]);
      y.push_back(sum);
    }
  }
  return y;
}

TEST(SkinnyGemm, EqualsNaiveAtAwkwardSizes) {
  ForEachLevel([] {
    for (int64_t m : {1, 2, 3, 4, 5, 7, 8, 13, 16, 31, 32, 67}) {
      for (int64_t o : {1, 2, 3, 5, 16, 37, 130}) {
        for (int64_t i : {1, 15, 16, 33, 97, 576}) {
          const auto x = Random<float>(m * i, 1), w = Random<float>(o * i, 2),
                     bias = Random<float>(o, 3);
          Guarded<float> y(m * o, NAN);
          const retort_skinny_gemm_shape shape = {
              .m = m, .o = o, .i = i, .x_stride = 0, .w_stride = 0, .y_stride = 0};
          retort_skinny_gemm_f32(&shape, x.data(), w.data(), bias.data(), y.data(), 2);
          ExpectNear(y.view(), NaiveGemm(m, o, i, x, w, bias), 2e-5, "y");
        }
      }
    }
  });
}

TEST(SkinnyGemm, F64EqualsNaive) {
  const int64_t m = 5, o = 37, i = 97;
  const auto x = Random<double>(m * i, 1), w = Random<double>(o * i, 2),
             bias = Random<double>(o, 3);
  Guarded<double> y(m * o);
  const retort_skinny_gemm_shape shape = {
      .m = m, .o = o, .i = i, .x_stride = 0, .w_stride = 0, .y_stride = 0};
  retort_skinny_gemm_f64(&shape, x.data(), w.data(), bias.data(), y.data(), 2);
  ExpectNear(y.view(), NaiveGemm(m, o, i, x, w, bias), 1e-12, "y");
}

TEST(SkinnyGemm, ARowsBitsDoNotDependOnTheBatchTheTileOrTheThreads) {
  ForEachLevel([] {
    const int64_t o = 61, i = 211;
    const auto x = Random<float>(70 * i, 1), w = Random<float>(o * i, 2);
    std::vector<float> alone(70 * 61);
    for (int64_t r = 0; r < 70; ++r) {
      const retort_skinny_gemm_shape one = {
          .m = 1, .o = o, .i = i, .x_stride = 0, .w_stride = 0, .y_stride = 0};
      retort_skinny_gemm_f32(&one, x.data() + r * i, w.data(), nullptr, alone.data() + r * o, 1);
    }
    for (int64_t m = 1; m <= 70; ++m) {
      for (int threads : {1, 2, 3}) {
        std::vector<float> y(size_t(m * (o + 3)), 0.0f);
        const retort_skinny_gemm_shape shape = {
            .m = m, .o = o, .i = i, .x_stride = 0, .w_stride = 0, .y_stride = o + 3};
        retort_skinny_gemm_f32(&shape, x.data(), w.data(), nullptr, y.data(), threads);
        for (int64_t r = 0; r < m; ++r) {
          for (int64_t c = 0; c < o; ++c) {
            ASSERT_EQ(y[size_t(r * (o + 3) + c)], alone[size_t(r * o + c)])
                << m << " " << r << " " << c;
          }
        }
      }
    }
  });
}

TEST(SkinnyGemm, Avx2AndAvx512GiveEqualBits) {
  if (retort_kernels_level_max() < RETORT_KERNELS_AVX512) GTEST_SKIP() << "no AVX-512 here";
  const auto x = Random<float>(9 * 577, 1), w = Random<float>(50 * 577, 2);
  const retort_skinny_gemm_shape shape = {
      .m = 9, .o = 50, .i = 577, .x_stride = 0, .w_stride = 0, .y_stride = 0};
  std::vector<float> y[2] = {std::vector<float>(450), std::vector<float>(450)};
  for (int level : {RETORT_KERNELS_AVX2, RETORT_KERNELS_AVX512}) {
    retort_kernels_set_level(level);
    retort_skinny_gemm_f32(&shape, x.data(), w.data(), nullptr, y[level - 1].data(), 1);
  }
  EXPECT_EQ(y[0], y[1]);
}

}  // namespace
}  // namespace retort::kernels
