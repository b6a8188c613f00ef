// Skinny GEMM: values, and that they do not depend on their company.
// SPDX-License-Identifier: Apache-2.0
#include "retort/kernels/gemm.h"

#include <numeric>

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

// Depths beyond what one pass takes (2048 with AVX-512, 512 elsewhere), whole lanes of them or not;
// rows with gaps, which must stay as they are.
TEST(SkinnyGemm, LongRowsAreCutAndGapsKept) {
  ForEachLevel([] {
    for (int64_t m : {3, 4, 6, 9, 16, 65}) {
      for (int64_t i : {511, 513, 1040, 2048, 2063, 4100}) {
        const int64_t o = 23, x_stride = i + 5, w_stride = i + 3, y_stride = o + 2;
        const auto x = Random<float>(m * x_stride, 1), w = Random<float>(o * w_stride, 2),
                   bias = Random<float>(o, 3);
        std::vector<float> dense_x, dense_w;
        for (int64_t r = 0; r < m; ++r) {
          dense_x.insert(dense_x.end(), x.begin() + r * x_stride, x.begin() + r * x_stride + i);
        }
        for (int64_t r = 0; r < o; ++r) {
          dense_w.insert(dense_w.end(), w.begin() + r * w_stride, w.begin() + r * w_stride + i);
        }
        const auto expected = NaiveGemm(m, o, i, dense_x, dense_w, bias);
        std::vector<float> y(size_t(m * y_stride), 7.0f);
        const retort_skinny_gemm_shape shape = {.m = m,
                                                .o = o,
                                                .i = i,
                                                .x_stride = x_stride,
                                                .w_stride = w_stride,
                                                .y_stride = y_stride};
        retort_skinny_gemm_f32(&shape, x.data(), w.data(), bias.data(), y.data(), 2);
        for (int64_t r = 0; r < m; ++r) {
          for (int64_t c = 0; c < y_stride; ++c) {
            const double want = c < o ? expected[size_t(r * o + c)] : 7.0;
            ASSERT_NEAR(double(y[size_t(r * y_stride + c)]), want, c < o ? 1e-4 : 0)
                << m << " rows of " << i << ": " << r << ", " << c;
          }
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

void ExpectRowsAlike(int64_t o, int64_t i, const std::vector<int64_t>& row_counts) {
  const int64_t rows = row_counts.back();
  const auto x = Random<float>(rows * i, 1), w = Random<float>(o * i, 2);
  std::vector<float> alone(size_t(rows * o));
  for (int64_t r = 0; r < rows; ++r) {
    const retort_skinny_gemm_shape one = {
        .m = 1, .o = o, .i = i, .x_stride = 0, .w_stride = 0, .y_stride = 0};
    retort_skinny_gemm_f32(&one, x.data() + r * i, w.data(), nullptr, alone.data() + r * o, 1);
  }
  for (int64_t m : row_counts) {
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
}

TEST(SkinnyGemm, ARowsBitsDoNotDependOnTheBatchTheTileOrTheThreads) {
  ForEachLevel([] {
    std::vector<int64_t> all(70);
    std::iota(all.begin(), all.end(), 1);
    ExpectRowsAlike(61, 211, all);
    ExpectRowsAlike(5, 211, all);  // fewer outputs than a tile has with AVX-512
    ExpectRowsAlike(300, 515, {2, 3, 16});
    ExpectRowsAlike(37, 2071, {2, 3, 4, 5, 8, 13, 16});  // beyond one pass's depth
  });
}

TEST(SkinnyGemm, Avx2AndAvx512GiveEqualBits) {
  if (retort_kernels_level_max() < RETORT_KERNELS_AVX512) GTEST_SKIP() << "no AVX-512 here";
  const auto x = Random<float>(17 * 2071, 1), w = Random<float>(50 * 2071, 2);
  for (int64_t m : {1, 3, 4, 9, 16, 17}) {
    for (int64_t i : {577, 2071}) {
      const retort_skinny_gemm_shape shape = {
          .m = m, .o = 50, .i = i, .x_stride = 0, .w_stride = 0, .y_stride = 0};
      std::vector<float> y[2] = {std::vector<float>(850), std::vector<float>(850)};
      for (int level : {RETORT_KERNELS_AVX2, RETORT_KERNELS_AVX512}) {
        retort_kernels_set_level(level);
        retort_skinny_gemm_f32(&shape, x.data(), w.data(), nullptr, y[level - 1].data(), 1);
      }
      EXPECT_EQ(y[0], y[1]) << m << " rows of " << i;
    }
  }
}

}  // namespace
}  // namespace retort::kernels
