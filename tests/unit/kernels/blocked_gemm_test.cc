// Blocked products: values against a naive sum in f64 in every way of storing the operands, and
// that neither threads nor company change a bit.
// SPDX-License-Identifier: Apache-2.0
#include "retort/kernels/gemm.h"
#include "tests/unit/kernels/kernel_testing.h"

namespace retort::kernels {
namespace {

// An operand [rows, cols], stored with a gap behind each row, or transposed.
struct Operand {
  std::vector<float> data;
  int64_t stride = 0;
  bool transposed = false;
  double At(int64_t row, int64_t col) const {
    return double(data[size_t(transposed ? col * stride + row : row * stride + col)]);
  }
};

Operand MakeOperand(int64_t rows, int64_t cols, bool transposed, int64_t gap, uint32_t seed) {
  const int64_t stride = (transposed ? rows : cols) + gap;
  return {.data = Random<float>((transposed ? cols : rows) * stride, seed),
          .stride = stride,
          .transposed = transposed};
}

struct Case {
  int64_t m, n;
  std::vector<int64_t> depths;  // of the terms
  int64_t gap = 0;              // floats behind each stored row
};

// Runs one case in one way of storing it, onto c, stored [n, m] if `turned`.
void Check(const Case& shape, bool a_turned, bool b_turned, bool c_turned, bool add, int threads) {
  std::vector<Operand> a, b;
  std::vector<retort_gemm_term> terms;
  for (size_t t = 0; t < shape.depths.size(); ++t) {
    const auto seed = static_cast<uint32_t>(10 * t + 1);
    a.push_back(MakeOperand(shape.m, shape.depths[t], a_turned, shape.gap, seed));
    b.push_back(MakeOperand(shape.depths[t], shape.n, b_turned, shape.gap, seed + 1));
  }
  for (size_t t = 0; t < a.size(); ++t) {
    terms.push_back({.a = a[t].data.data(),
                     .b = b[t].data.data(),
                     .k = shape.depths[t],
                     .a_stride = a[t].stride,
                     .b_stride = b[t].stride,
                     .a_transposed = a_turned,
                     .b_transposed = b_turned});
  }
  const auto before = Random<float>(shape.m * shape.n, 99);
  Guarded<float> c(before);
  const retort_gemm_shape call = {.m = shape.m,
                                  .n = shape.n,
                                  .c_stride = c_turned ? shape.m : shape.n,
                                  .n_terms = static_cast<int32_t>(terms.size()),
                                  .accumulate = add,
                                  .c_transposed = c_turned};
  retort_gemm_f32(&call, terms.data(), c.data(), threads);
  std::vector<double> want(before.size());
  for (int64_t m = 0; m < shape.m; ++m) {
    for (int64_t n = 0; n < shape.n; ++n) {
      const auto at = size_t(c_turned ? n * shape.m + m : m * shape.n + n);
      double sum = add ? double(before[at]) : 0;
      for (size_t t = 0; t < a.size(); ++t) {
        for (int64_t k = 0; k < shape.depths[t]; ++k) sum += a[t].At(m, k) * b[t].At(k, n);
      }
      want[at] = sum;
    }
  }
  ExpectNear(c.view(), want, 1e-4,
             "m " + std::to_string(shape.m) + " n " + std::to_string(shape.n) + " a " +
                 std::to_string(a_turned) + " b " + std::to_string(b_turned) + " c " +
                 std::to_string(c_turned));
}

TEST(BlockedGemm, EqualsNaiveHoweverItIsStored) {
  const std::vector<Case> cases = {
      {1, 1, {1}},         {13, 7, {5}},        {14, 32, {64}},         {15, 33, {321}},
      {113, 17, {97}, 3},  {16, 400, {700}},    {57, 385, {333}, 1},    {230, 48, {16, 31}},
      {61, 96, {320, 16}}, {20, 577, {17}, 64}, {40, 64, {300, 20, 8}}, {5, 1024, {9}, 0},
      {1024, 40, {33}, 0},
  };
  ForEachLevel([&] {
    for (const Case& shape : cases) {
      for (int way = 0; way < 8; ++way) {
        Check(shape, (way & 1) != 0, (way & 2) != 0, (way & 4) != 0, way % 3 == 0, 1 + way % 3);
      }
    }
  });
}

TEST(BlockedGemm, NeitherThreadsNorOtherRowsChangeABit) {
  ForEachLevel([] {
    const int64_t m = 131, n = 170, k = 700;
    const auto a = Random<float>(m * k, 1), b = Random<float>(n * k, 2);
    const retort_gemm_term term = {.a = a.data(),
                                   .b = b.data(),
                                   .k = k,
                                   .a_stride = k,
                                   .b_stride = k,
                                   .a_transposed = 0,
                                   .b_transposed = 1};
    const auto run = [&](int64_t rows, int threads) {
      std::vector<float> c(size_t(rows * n));
      const retort_gemm_shape shape = {
          .m = rows, .n = n, .c_stride = n, .n_terms = 1, .accumulate = 0, .c_transposed = 0};
      retort_gemm_f32(&shape, &term, c.data(), threads);
      return c;
    };
    const std::vector<float> all = run(m, 1);
    for (int threads : {2, 3}) EXPECT_EQ(run(m, threads), all);
    for (int64_t rows : {1, 16, 57, 100}) {
      EXPECT_EQ(run(rows, 2), std::vector<float>(all.begin(), all.begin() + rows * n)) << rows;
    }
  });
}

}  // namespace
}  // namespace retort::kernels
