// Element-wise loops, bias, column sums, embedding, rope, activations.
// SPDX-License-Identifier: Apache-2.0
#include "retort/kernels/elementwise.h"

#include "retort/kernels/activation.h"
#include "retort/kernels/rope.h"
#include "tests/unit/kernels/kernel_testing.h"

namespace retort::kernels {
namespace {

TEST(Elementwise, EqualsNaiveAndMayWriteOverItsInputs) {
  ForEachLevel([] {
    for (int64_t n : {int64_t{1}, int64_t{17}, int64_t{1031}, int64_t{40001}}) {
      const auto a = Random<float>(n, 1), b = Random<float>(n, 2);
      std::vector<double> sum, product, scaled, axpy;
      for (size_t i = 0; i < a.size(); ++i) {
        sum.push_back(double(a[i] + b[i]));
        product.push_back(double(a[i] * b[i]));
        scaled.push_back(double(a[i] * 0.75f));
        axpy.push_back(double(b[i]) + 0.75 * double(a[i]));
      }
      Guarded<float> y_sum(a), y_product(b), y_scaled(a), y_axpy(b);
      retort_add_f32(y_sum.data(), b.data(), y_sum.data(), n, 2);
      retort_mul_f32(a.data(), y_product.data(), y_product.data(), n, 2);
      retort_scale_f32(y_scaled.data(), 0.75, y_scaled.data(), n, 2);
      retort_axpy_f32(a.data(), 0.75, y_axpy.data(), n, 2);
      ExpectNear(y_sum.view(), sum, 0, "add");
      ExpectNear(y_product.view(), product, 0, "mul");
      ExpectNear(y_scaled.view(), scaled, 0, "scale");
      ExpectNear(y_axpy.view(), axpy, 3e-7, "axpy");
    }
  });
}

TEST(Elementwise, BiasAndColumnSumAreEachOthersGradient) {
  ForEachLevel([] {
    for (int64_t cols : kSizes) {
      const int64_t rows = 131, stride = cols + 5;
      const auto x = Random<float>(rows * stride, 1), bias = Random<float>(cols, 2);
      std::vector<double> plus(x.begin(), x.end()), sums(size_t(cols), 0.5);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < cols; ++c) {
          plus[size_t(r * stride + c)] += double(bias[size_t(c)]);
          sums[size_t(c)] += double(x[size_t(r * stride + c)]);
        }
      }
      Guarded<float> y(x), out(cols, 0.5f);
      retort_add_bias_f32(y.data(), stride, bias.data(), rows, cols, 2);
      retort_col_sum_f32(x.data(), stride, out.data(), rows, cols, 2);
      ExpectNear(y.view(), plus, 3e-7, "bias");
      ExpectNear(out.view(), sums, 1e-5, "column sum");
    }
  });
}

TEST(Embed, GathersRowsAndScattersGradients) {
  ForEachLevel([] {
    for (int64_t cols : kSizes) {
      const auto table = Random<double>(6 * cols, 1), dy = Random<double>(5 * cols, 2);
      const std::vector<int32_t> ids = {3, 0, 3, 5, 3};
      std::vector<double> want_y(size_t(5 * cols)), want_d(size_t(6 * cols), 1.0);
      for (size_t r = 0; r < 5; ++r) {
        for (size_t c = 0; c < size_t(cols); ++c) {
          want_y[r * size_t(cols) + c] = 2 * table[size_t(ids[r]) * size_t(cols) + c];
          want_d[size_t(ids[r]) * size_t(cols) + c] += 2 * dy[r * size_t(cols) + c];
        }
      }
      Guarded<double> y(5 * cols), d(6 * cols, 1.0);
      retort_embed_f64(table.data(), ids.data(), 2, y.data(), 5, cols, 2);
      retort_embed_backward_f64(dy.data(), ids.data(), 2, d.data(), 5, cols, 2);
      ExpectNear(y.view(), want_y, 0, "rows");
      ExpectNear(d.view(), want_d, 1e-14, "gradient");
      const std::vector<float> table32(table.begin(), table.end()), dy32(dy.begin(), dy.end());
      Guarded<float> y32(5 * cols), d32(6 * cols, 1.0f);
      retort_embed_f32(table32.data(), ids.data(), 2, y32.data(), 5, cols, 2);
      retort_embed_backward_f32(dy32.data(), ids.data(), 2, d32.data(), 5, cols, 2);
      ExpectNear(y32.view(), want_y, 1e-6, "rows");
      ExpectNear(d32.view(), want_d, 2e-6, "gradient");
    }
  });
}

struct RopeCase {
  int64_t head_dim, rotary_dim;
  int32_t layout;
};

// Complex multiplication by cos + i sin of each pair.
std::vector<double> NaiveRope(const RopeCase& c, const std::vector<float>& x,
                              const std::vector<float>& cos_table,
                              const std::vector<float>& sin_table,
                              const std::vector<int32_t>& positions, int64_t heads) {
  std::vector<double> y(x.begin(), x.end());
  const int64_t half = c.rotary_dim / 2;
  for (size_t r = 0; r < positions.size(); ++r) {
    for (int64_t h = 0; h < heads; ++h) {
      const size_t base = (r * size_t(heads) + size_t(h)) * size_t(c.head_dim);
      for (int64_t i = 0; i < half; ++i) {
        const bool pairs = c.layout == RETORT_KERNELS_ROPE_INTERLEAVED;
        const size_t a = base + size_t(pairs ? 2 * i : i),
                     b = base + size_t(pairs ? 2 * i + 1 : i + half);
        const double cos_v = double(cos_table[size_t(positions[r] * half + i)]);
        const double sin_v = double(sin_table[size_t(positions[r] * half + i)]);
        y[a] = double(x[a]) * cos_v - double(x[b]) * sin_v;
        y[b] = double(x[b]) * cos_v + double(x[a]) * sin_v;
      }
    }
  }
  return y;
}

TEST(Rope, RotatesPairsOfBothLayoutsAndBack) {
  const std::vector<int32_t> positions = {4, 0, 9, 9};
  ForEachLevel([&] {
    for (const RopeCase& c : {RopeCase{64, 64, 0},
                              {64, 64, 1},
                              {20, 10, 0},
                              {20, 10, 1},
                              {6, 2, 0},
                              {128, 96, 0},
                              {34, 34, 1}}) {
      const int64_t heads = 3, n = 4 * heads * c.head_dim, half = c.rotary_dim / 2;
      const auto x = Random<float>(n, 1), angle = Random<float>(10 * half, 2);
      std::vector<float> cos_table, sin_table;
      for (float a : angle) {
        cos_table.push_back(std::cos(a));
        sin_table.push_back(std::sin(a));
      }
      retort_rope_shape shape = {.rows = 4,
                                 .n_heads = heads,
                                 .head_dim = c.head_dim,
                                 .rotary_dim = c.rotary_dim,
                                 .layout = c.layout,
                                 .inverse = 0};
      Guarded<float> y(n);
      retort_rope_f32(&shape, x.data(), 0, cos_table.data(), sin_table.data(), positions.data(),
                      y.data(), 0, 2);
      ExpectNear(y.view(), NaiveRope(c, x, cos_table, sin_table, positions, heads), 1e-6, "y");
      shape.inverse = 1;
      retort_rope_f32(&shape, y.data(), 0, cos_table.data(), sin_table.data(), positions.data(),
                      y.data(), 0, 2);
      ExpectNear(y.view(), {x.begin(), x.end()}, 2e-6, "back");
    }
  });
}

double NaiveAct(int kind, double x) {
  constexpr double kRoot = 0.79788456080286536;  // sqrt(2 / pi)
  switch (kind) {
    case RETORT_KERNELS_GELU: return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case RETORT_KERNELS_GELU_TANH:
      return 0.5 * x * (1 + std::tanh(kRoot * (x + 0.044715 * x * x * x)));
    case RETORT_KERNELS_RELU: return x > 0 ? x : 0;
    default: return x / (1 + std::exp(-x));
  }
}
double NaiveSlope(int kind, double x) {
  return (NaiveAct(kind, x + 1e-5) - NaiveAct(kind, x - 1e-5)) / 2e-5;
}

class ActivationTest : public testing::TestWithParam<int> {};

TEST_P(ActivationTest, ValueAndSlopeEqualTheFormula) {
  const int kind = GetParam();
  ForEachLevel([&] {
    for (int64_t n : kSizes) {
      const auto x = Random<float>(n, 1, 4), dy = Random<float>(n, 2);
      std::vector<double> want_y, want_dx;
      for (size_t i = 0; i < x.size(); ++i) {
        want_y.push_back(NaiveAct(kind, double(x[i])));
        want_dx.push_back(double(dy[i]) * NaiveSlope(kind, double(x[i])));
      }
      Guarded<float> y(x), dx(n);
      retort_activation_f32(kind, y.data(), y.data(), n, 1);
      retort_activation_backward_f32(kind, x.data(), dy.data(), dx.data(), n, 1);
      ExpectNear(y.view(), want_y, 1e-6, "y");
      ExpectNear(dx.view(), want_dx, 3e-6, "dx");
      const std::vector<double> x64(x.begin(), x.end()), dy64(dy.begin(), dy.end());
      Guarded<double> y64(n), dx64(n);
      retort_activation_f64(kind, x64.data(), y64.data(), n, 1);
      retort_activation_backward_f64(kind, x64.data(), dy64.data(), dx64.data(), n, 1);
      ExpectNear(y64.view(), want_y, 1e-13, "y f64");
      ExpectNear(dx64.view(), want_dx, 1e-9, "dx f64");
    }
  });
}

TEST_P(ActivationTest, GatedProductAndItsGradients) {
  const int kind = GetParam();
  ForEachLevel([&] {
    for (int64_t cols : kSizes) {
      const int64_t rows = 3,
                    in_stride = 2 * cols;  // gate and up side by side, as one GEMM leaves them
      const auto in = Random<float>(rows * in_stride, 1, 3), dy = Random<float>(rows * cols, 2);
      std::vector<double> want_y, want_d(in.size());
      for (size_t r = 0; r < 3; ++r) {
        for (size_t c = 0; c < size_t(cols); ++c) {
          const size_t g = r * size_t(in_stride) + c, u = g + size_t(cols);
          const double d = double(dy[r * size_t(cols) + c]);
          want_y.push_back(NaiveAct(kind, double(in[g])) * double(in[u]));
          want_d[g] = d * double(in[u]) * NaiveSlope(kind, double(in[g]));
          want_d[u] = d * NaiveAct(kind, double(in[g]));
        }
      }
      const retort_gated_shape shape = {.rows = rows,
                                        .cols = cols,
                                        .in_stride = in_stride,
                                        .out_stride = 0,
                                        .kind = kind,
                                        .reserved = 0};
      Guarded<float> y(rows * cols), d(in);
      retort_gated_f32(&shape, in.data(), in.data() + cols, y.data(), 2);
      retort_gated_backward_f32(&shape, d.data(), d.data() + cols, dy.data(), d.data(),
                                d.data() + cols, 2);
      ExpectNear(y.view(), want_y, 2e-6, "y");
      ExpectNear(d.view(), want_d, 5e-6, "gradient");
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Kinds, ActivationTest,
                         testing::Values(RETORT_KERNELS_SILU, RETORT_KERNELS_GELU,
                                         RETORT_KERNELS_GELU_TANH, RETORT_KERNELS_RELU));

TEST(Activation, ExtremesAndNotANumber) {
  const float inf = INFINITY;
  ForEachLevel([&] {
    const std::vector<float> x = {-1000, -90, 0, 90, 1000, NAN, inf};
    std::vector<float> y(x.size());
    retort_activation_f32(RETORT_KERNELS_SILU, x.data(), y.data(), 7, 1);
    EXPECT_EQ(y[0], 0);
    EXPECT_NEAR(y[1], 0, 1e-30);
    EXPECT_EQ(y[2], 0);
    EXPECT_EQ(y[3], 90);
    EXPECT_EQ(y[4], 1000);
    EXPECT_TRUE(std::isnan(y[5]));
    EXPECT_EQ(y[6], inf);
  });
}

}  // namespace
}  // namespace retort::kernels
