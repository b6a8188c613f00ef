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
Product ProductOf(const retort_packed_matrix& w, const float* row, const float* x) {
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

// All products of a matrix and x, and their bounds: computed once, compared at every level.
struct Reference {
  Reference(const Packed& packed, int64_t m, const std::vector<float>& x,
            const std::vector<float>* bias)
      : outputs(packed.matrix.rows) {
    const retort_packed_matrix& w = packed.matrix;
    const auto rows = packed.Rows();
    for (int64_t r = 0; r < m; ++r) {
      for (int64_t o = 0; o < outputs; ++o) {
        Product p = ProductOf(w, rows.data() + o * w.cols, x.data() + r * w.cols);
        const double b = bias != nullptr ? double((*bias)[size_t(o)]) : 0;
        p.bound += 1e-7 * (std::fabs(b) + std::fabs(p.value));
        p.value += b;
        products.push_back(p);
      }
    }
  }
  void Expect(const float* y) const {
    for (size_t i = 0; i < products.size(); ++i) {
      ASSERT_NEAR(double(y[i]), products[i].value, products[i].bound)
          << "row " << i / size_t(outputs) << " output " << i % size_t(outputs);
    }
  }
  int64_t outputs;
  std::vector<Product> products;
};

void CheckCase(const Packed& packed, int64_t m, bool biased) {
  const int64_t outputs = packed.matrix.rows, cols = packed.matrix.cols;
  SCOPED_TRACE(std::to_string(m) + " x " + std::to_string(outputs) + " x " + std::to_string(cols));
  const auto x = Random<float>(m * cols, uint32_t(m)), bias = Random<float>(outputs, 3);
  const Reference want(packed, m, x, biased ? &bias : nullptr);
  ForEachLevel([&] {
    Guarded<float> y(m * outputs, NAN);
    retort_packed_gemm_f32(&packed.matrix, x.data(), m, 0, biased ? bias.data() : nullptr, y.data(),
                           0, m % 3 ? 1 : 2);
    want.Expect(y.data());
  });
}

void CheckType(int type, bool exact) {
  SCOPED_TRACE(TypeName(type));
  for (int64_t cols : ColumnsOf(type)) {
    for (int64_t outputs : kOutputs) {
      const auto packed = RandomPacked(type, outputs, cols, 1);
      packed->matrix.exact = exact ? 1 : 0;
      for (int64_t m : kManyRows) {
        if (m > 1 && (outputs + cols + m) % 4 != 0) continue;  // a quarter is enough
        CheckCase(*packed, m, m % 2 != 0);
      }
    }
  }
}

TEST(PackedGemm, EqualsF64AtAwkwardSizes) {
  for (int type = 0; type < RETORT_PACKED_TYPES; ++type) CheckType(type, false);
}

TEST(PackedGemm, ExactMatricesNeverRoundX) {
  for (int type = RETORT_PACKED_Q8_0; type <= RETORT_PACKED_Q6_K; ++type) CheckType(type, true);
}

TEST(PackedGemm, ManyColumnsInSeveralChunks) {
  for (int type = 0; type < RETORT_PACKED_TYPES; ++type) {
    SCOPED_TRACE(TypeName(type));
    const auto packed = RandomPacked(type, 19, 9 * 2048 + 256, 1);
    for (int64_t m : {1, 5, 16, 20, 70}) CheckCase(*packed, m, true);
  }
}

// Several panels of outputs, rows a multiple of 4096 bytes apart.
TEST(PackedGemm, ManyOutputsOfRowsThatShareSetsOfTheCache) {
  for (int type = 0; type < RETORT_PACKED_TYPES; ++type) {
    SCOPED_TRACE(TypeName(type));
    const auto packed = RandomPacked(type, 201, 2048, 1);
    packed->matrix.exact = 1;
    CheckCase(*packed, 29, true);
  }
}

// Float types have one order of sums up to 16 rows and one from 17 on.
TEST(PackedGemm, ARowOfManyDoesNotDependOnTheBatchOrTheThreads) {
  ForEachLevel([] {
    for (int type = 0; type < RETORT_PACKED_TYPES; ++type) {
      SCOPED_TRACE(TypeName(type));
      const int64_t outputs = 83, cols = 1792, few = 17, many = 70;
      const auto packed = RandomPacked(type, outputs, cols, 1);
      const auto x = Random<float>(many * cols, 2);
      std::vector<float> whole(size_t(many * outputs)), part(size_t(few * outputs));
      retort_packed_gemm_f32(&packed->matrix, x.data(), many, 0, nullptr, whole.data(), 0, 2);
      for (int64_t first : {0, 5, 16, 53}) {
        retort_packed_gemm_f32(&packed->matrix, x.data() + first * cols, few, 0, nullptr,
                               part.data(), 0, first % 2 ? 1 : 3);
        ASSERT_EQ(
            std::memcmp(part.data(), whole.data() + first * outputs, part.size() * sizeof(float)),
            0)
            << "from row " << first;
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
      if (m > 16 && type <= RETORT_PACKED_BF16) continue;  // each level has its own way
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
          Reference(packed, 2, x, nullptr).Expect(y.data());
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

void CheckTransposed(const Packed& packed, int64_t m) {
  const int64_t outputs = packed.matrix.rows, cols = packed.matrix.cols;
  SCOPED_TRACE(std::to_string(m) + " x " + std::to_string(outputs) + " x " + std::to_string(cols));
  const bool add = m % 2 != 0;
  const auto rows = packed.Rows();
  const auto dy = Random<float>(m * outputs, 2), before = Random<float>(m * cols, 3);
  std::vector<double> want, bounds;
  for (int64_t i = 0; i < m * cols; ++i) {
    double sum = add ? double(before[size_t(i)]) : 0, magnitude = std::fabs(sum);
    for (int64_t o = 0; o < outputs; ++o) {
      const double term =
          double(dy[size_t(i / cols * outputs + o)]) * double(rows[size_t(o * cols + i % cols)]);
      sum += term;
      magnitude += std::fabs(term);
    }
    want.push_back(sum);
    bounds.push_back(double(outputs + 8) * 0x1p-24 * magnitude);
  }
  ForEachLevel([&] {
    Guarded<float> dx(before);
    retort_packed_gemm_transposed_f32(&packed.matrix, dy.data(), m, 0, add ? 1 : 0, dx.data(), 0,
                                      m % 3 ? 1 : 2);
    for (size_t i = 0; i < want.size(); ++i) {
      ASSERT_NEAR(double(dx.view()[i]), want[i], bounds[i]) << i;
    }
  });
}

TEST(PackedGemmTransposed, EqualsF64AtAwkwardSizes) {
  for (int type = 0; type < RETORT_PACKED_TYPES; ++type) {
    SCOPED_TRACE(TypeName(type));
    for (int64_t cols : ColumnsOf(type)) {
      for (int64_t outputs : {1, 16, 83, 300}) {
        const auto packed = RandomPacked(type, outputs, cols, 1);
        for (int64_t m : {1, 3, 16, 17, 33}) {
          if ((m + outputs + cols) % 2) CheckTransposed(*packed, m);
        }
      }
    }
  }
}

}  // namespace
}  // namespace retort::kernels
