// Products with packed matrices against sums in f64 over the dequantised weights. Bounds:
// - a sum of n terms in f32 is off by at most n 2^-24 times the sum of the terms' magnitudes;
// - x rounded to int8 per 32 columns moves by at most half of (largest magnitude / 127).
// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/packed/packed_testing.h"

namespace retort::kernels {
namespace {

constexpr int64_t kManyRows[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 33, 60};
constexpr int64_t kOutputs[] = {1, 3, 16, 17, 32, 48, 83};

bool RoundsX(const retort_packed_matrix& w) {
  return w.type >= RETORT_PACKED_Q8_0 && w.type != RETORT_PACKED_NF4 && w.exact == 0;
}

// Whole blocks of each type; any number of columns for the float types.
std::vector<int64_t> ColumnsOf(int type) {
  const int64_t n = retort_packed_block_weights(type);
  if (n == 1) return {1, 15, 16, 31, 97, 257, 576};
  if (n == 256) return {256, 768};
  return {n, 3 * n, 576, 1088};
}

struct Product {
  double value, bound;
};
Product Reference(const retort_packed_matrix& w, const float* row, const float* x) {
  double sum = 0, magnitude = 0, rounding = 0;
  for (int64_t begin = 0; begin < w.cols; begin += 32) {
    double largest = 0, weights = 0;
    for (int64_t c = begin; c < std::min(w.cols, begin + 32); ++c) {
      sum += double(row[c]) * double(x[c]);
      magnitude += std::fabs(double(row[c]) * double(x[c]));
      largest = std::max(largest, std::fabs(double(x[c])));
      weights += std::fabs(double(row[c]));
    }
    rounding += weights * largest / 254 * (1 + 1e-5);
  }
  // Codes and minima of a block meet apart: twice the magnitude, at most, when they cancel.
  const double terms = double(w.cols + 8) * 0x1p-24;
  return {sum, RoundsX(w) ? rounding + 4 * terms * (magnitude + rounding) : terms * magnitude};
}

void ExpectProducts(const retort_packed_matrix& w, const std::vector<float>& rows, int64_t m,
                    const std::vector<float>& x, const std::vector<float>* bias, const float* y) {
  for (int64_t r = 0; r < m; ++r) {
    for (int64_t o = 0; o < w.rows; ++o) {
      const Product want = Reference(w, rows.data() + o * w.cols, x.data() + r * w.cols);
      const double b = bias != nullptr ? double((*bias)[size_t(o)]) : 0;
      ASSERT_NEAR(double(y[r * w.rows + o]), want.value + b,
                  want.bound + 1e-7 * (std::fabs(b) + std::fabs(want.value)))
          << "row " << r << " output " << o << " of " << w.rows << " x " << w.cols;
    }
  }
}

void CheckType(int type, bool exact) {
  for (int64_t cols : ColumnsOf(type)) {
    for (int64_t outputs : kOutputs) {
      const auto packed = RandomPacked(type, outputs, cols, 1);
      packed->matrix.exact = exact ? 1 : 0;
      const auto rows = packed->Rows();
      const auto bias = Random<float>(outputs, 3);
      for (int64_t m : kManyRows) {
        if (m > 1 && m < 16 && (outputs + cols + m) % 3 != 0) continue;  // a third is enough
        const auto x = Random<float>(m * cols, uint32_t(m));
        Guarded<float> y(m * outputs, NAN);
        retort_packed_gemm_f32(&packed->matrix, x.data(), m, 0, m % 2 ? bias.data() : nullptr,
                               y.data(), 0, m % 3 ? 1 : 2);
        ExpectProducts(packed->matrix, rows, m, x, m % 2 ? &bias : nullptr, y.data());
      }
    }
  }
}

TEST(PackedGemm, EqualsF64AtAwkwardSizes) {
  ForEachLevel([] {
    for (int type = 0; type < RETORT_PACKED_TYPES; ++type) {
      SCOPED_TRACE(TypeName(type));
      CheckType(type, false);
    }
  });
}

TEST(PackedGemm, ExactMatricesNeverRoundX) {
  ForEachLevel([] {
    for (int type = RETORT_PACKED_Q8_0; type <= RETORT_PACKED_Q6_K; ++type) {
      SCOPED_TRACE(TypeName(type));
      CheckType(type, true);
    }
  });
}

TEST(PackedGemm, ManyColumnsInSeveralChunks) {
  ForEachLevel([] {
    for (int type = 0; type < RETORT_PACKED_TYPES; ++type) {
      SCOPED_TRACE(TypeName(type));
      const int64_t cols = 9 * 2048 + 256;
      const auto packed = RandomPacked(type, 19, cols, 1);
      for (int64_t m : {1, 5, 16, 20, 70}) {
        const auto x = Random<float>(m * cols, 2);
        std::vector<float> y(size_t(m * 19));
        retort_packed_gemm_f32(&packed->matrix, x.data(), m, 0, nullptr, y.data(), 0, 2);
        ExpectProducts(packed->matrix, packed->Rows(), m, x, nullptr, y.data());
      }
    }
  });
}

// Block types: any batch. The others: up to 16 rows.
TEST(PackedGemm, ARowsBitsDoNotDependOnTheBatchOrTheThreads) {
  ForEachLevel([] {
    for (int type = 0; type < RETORT_PACKED_TYPES; ++type) {
      SCOPED_TRACE(TypeName(type));
      const int64_t outputs = 83, cols = 4352;
      const auto packed = RandomPacked(type, outputs, cols, 1);
      const int64_t most = type >= RETORT_PACKED_Q8_0 ? 70 : 16;
      const auto x = Random<float>(most * cols, 2), bias = Random<float>(outputs, 3);
      std::vector<float> alone(size_t(most * outputs));
      for (int64_t r = 0; r < most; ++r) {
        retort_packed_gemm_f32(&packed->matrix, x.data() + r * cols, 1, 0, bias.data(),
                               alone.data() + r * outputs, 0, 1);
      }
      for (int64_t m : {2, 3, 5, 8, 13, 16, 17, 70}) {
        if (m > most) break;
        for (int threads : {1, 2, 3}) {
          std::vector<float> y(size_t(m * (outputs + 3)));
          retort_packed_gemm_f32(&packed->matrix, x.data(), m, cols, bias.data(), y.data(),
                                 outputs + 3, threads);
          for (int64_t r = 0; r < m; ++r) {
            ASSERT_EQ(std::memcmp(y.data() + r * (outputs + 3), alone.data() + r * outputs,
                                  size_t(outputs) * sizeof(float)),
                      0)
                << m << " rows, row " << r << ", threads " << threads;
          }
        }
      }
    }
  });
}

TEST(PackedGemm, Avx2AndAvx512GiveEqualBits) {
  if (retort_kernels_level_max() < RETORT_KERNELS_AVX512) GTEST_SKIP() << "no AVX-512 here";
  for (int type = 0; type < RETORT_PACKED_TYPES; ++type) {
    const auto packed = RandomPacked(type, 45, 1280, 1);
    for (int64_t m : {1, 9, 40}) {
      const auto x = Random<float>(m * 1280, 2);
      std::vector<float> y[2];
      for (int level : {RETORT_KERNELS_AVX2, RETORT_KERNELS_AVX512}) {
        retort_kernels_set_level(level);
        y[level - 1].resize(size_t(m * 45));
        retort_packed_gemm_f32(&packed->matrix, x.data(), m, 0, nullptr, y[level - 1].data(), 0, 1);
      }
      EXPECT_EQ(y[0], y[1]) << TypeName(type) << " " << m;
    }
  }
}

// Codes at the ends of their ranges, -128 among them, against x at both ends: nothing saturates.
TEST(PackedGemm, ExtremeCodesDoNotOverflow) {
  ForEachLevel([] {
    for (int type = RETORT_PACKED_Q8_0; type <= RETORT_PACKED_Q6_K; ++type) {
      SCOPED_TRACE(TypeName(type));
      const int64_t outputs = 16, cols = 512;
      const int64_t n = retort_packed_block_weights(type), bytes = retort_packed_block_bytes(type);
      for (const int code : {0x00, 0x7f, 0x80, 0xff}) {
        std::vector<uint8_t> file(size_t(outputs * cols / n * bytes), uint8_t(code));
        for (size_t at = 0; at < file.size(); at += size_t(bytes)) {
          for (const size_t high : {size_t{1}, size_t{3}, size_t{209}}) {  // 16-bit floats: 1/8
            const bool is = high == 1   ? type != RETORT_PACKED_Q6_K
                            : high == 3 ? type == RETORT_PACKED_Q4_1 || type == RETORT_PACKED_Q4_K
                                        : type == RETORT_PACKED_Q6_K;
            if (is) file[at + high] = 0x30, file[at + high - 1] = 0;
          }
        }
        const Packed packed(type, outputs, cols, file);
        for (int sign : {1, -1, 0}) {
          std::vector<float> x(size_t(2 * cols), float(sign));
          for (size_t i = 0; sign == 0 && i < x.size(); ++i) x[i] = i % 2 ? 1.0f : -1.0f;
          std::vector<float> y(size_t(2 * outputs));
          retort_packed_gemm_f32(&packed.matrix, x.data(), 2, 0, nullptr, y.data(), 0, 1);
          ExpectProducts(packed.matrix, packed.Rows(), 2, x, nullptr, y.data());
        }
      }
    }
  });
}

TEST(PackedGemm, NonFiniteInputsShowInTheirRowAlone) {
  ForEachLevel([] {
    for (int type = 0; type < RETORT_PACKED_TYPES; ++type) {
      SCOPED_TRACE(TypeName(type));
      const auto packed = RandomPacked(type, 20, 512, 1);
      for (const float bad : {NAN, INFINITY, -INFINITY}) {
        auto x = Random<float>(3 * 512, 2);
        x[512 + 100] = bad;
        std::vector<float> y(60);
        retort_packed_gemm_f32(&packed->matrix, x.data(), 3, 0, nullptr, y.data(), 0, 1);
        for (size_t i = 0; i < 60; ++i) EXPECT_EQ(std::isfinite(y[i]), i / 20 != 1) << i;
      }
    }
  });
}

TEST(PackedGemm, ZeroAndTinyInputsGiveFiniteSums) {
  ForEachLevel([] {
    for (int type = 0; type < RETORT_PACKED_TYPES; ++type) {
      const auto packed = RandomPacked(type, 5, 256, 1);
      for (const float size : {0.0f, 1e-42f, 1e-37f}) {
        const std::vector<float> x(256, size);
        std::vector<float> y(5, NAN);
        retort_packed_gemm_f32(&packed->matrix, x.data(), 1, 0, nullptr, y.data(), 0, 1);
        for (float v : y) EXPECT_NEAR(v, 0, 1e-34) << TypeName(type);
      }
    }
  });
}

TEST(PackedGemmTransposed, EqualsF64AtAwkwardSizes) {
  ForEachLevel([] {
    for (int type = 0; type < RETORT_PACKED_TYPES; ++type) {
      SCOPED_TRACE(TypeName(type));
      for (int64_t cols : ColumnsOf(type)) {
        for (int64_t outputs : {1, 16, 83, 300}) {
          const auto packed = RandomPacked(type, outputs, cols, 1);
          const auto rows = packed->Rows();
          for (int64_t m : {1, 3, 16, 17, 33}) {
            const bool add = m % 2 != 0;
            const auto dy = Random<float>(m * outputs, 2), before = Random<float>(m * cols, 3);
            Guarded<float> dx(before);
            retort_packed_gemm_transposed_f32(&packed->matrix, dy.data(), m, 0, add ? 1 : 0,
                                              dx.data(), 0, m % 3 ? 1 : 2);
            for (int64_t r = 0; r < m; ++r) {
              for (int64_t c = 0; c < cols; ++c) {
                double sum = add ? double(before[size_t(r * cols + c)]) : 0;
                double magnitude = std::fabs(sum);
                for (int64_t o = 0; o < outputs; ++o) {
                  const double term =
                      double(dy[size_t(r * outputs + o)]) * double(rows[size_t(o * cols + c)]);
                  sum += term;
                  magnitude += std::fabs(term);
                }
                ASSERT_NEAR(double(dx.view()[size_t(r * cols + c)]), sum,
                            double(outputs + 8) * 0x1p-24 * magnitude)
                    << r << " " << c << " of " << outputs << " x " << cols;
              }
            }
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace retort::kernels
