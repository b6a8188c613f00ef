// Skinny GEMM and cached attention: values, and that they do not depend on their company.
// SPDX-License-Identifier: Apache-2.0
#include "retort/kernels/gemm.h"

#include "retort/kernels/attention.h"
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

// ---- attention ---------------------------------------------------------------------------------

struct Case {
  int64_t heads, kv_heads, dim, n_q, n_past, window;
  double soft_cap;
};

struct Inputs {
  retort_attention_shape shape;
  std::vector<float> q, k, v;
  explicit Inputs(const Case& c, uint32_t seed) {
    const int64_t keys = c.n_past + c.n_q;
    shape = {.n_heads = c.heads,
             .n_kv_heads = c.kv_heads,
             .head_dim = c.dim,
             .window = c.window,
             .scale = 1 / std::sqrt(double(c.dim)),
             .soft_cap = c.soft_cap,
             .kv_head_stride = keys * c.dim,
             .kv_row_stride = c.dim};
    q = Random<float>(c.n_q * c.heads * c.dim, seed);
    k = Random<float>(keys * c.kv_heads * c.dim, seed + 1);
    v = Random<float>(keys * c.kv_heads * c.dim, seed + 2);
  }
  retort_attention_sequence_f32 Rows(const Case& c, int64_t first, int64_t n, float* out) const {
    const int64_t width = c.heads * c.dim;
    return {.q = q.data() + first * width,
            .k = k.data(),
            .v = v.data(),
            .out = out + first * width,
            .q_stride = width,
            .out_stride = width,
            .n_q = n,
            .n_past = c.n_past + first};
  }
};

double Score(const Case& c, const Inputs& in, int64_t row, int64_t head, int64_t key) {
  const int64_t g = head / (c.heads / c.kv_heads);
  double s = 0;
  for (int64_t d = 0; d < c.dim; ++d) {
    s += double(in.q[size_t((row * c.heads + head) * c.dim + d)]) *
         double(in.k[size_t(g * in.shape.kv_head_stride + key * c.dim + d)]);
  }
  s *= in.shape.scale;
  return c.soft_cap > 0 ? c.soft_cap * std::tanh(s / c.soft_cap) : s;
}

std::vector<double> NaiveAttention(const Case& c, const Inputs& in) {
  std::vector<double> out;
  for (int64_t row = 0; row < c.n_q; ++row) {
    for (int64_t head = 0; head < c.heads; ++head) {
      const int64_t last = c.n_past + row, g = head / (c.heads / c.kv_heads);
      const int64_t first = c.window > 0 ? std::max<int64_t>(0, last - c.window + 1) : 0;
      std::vector<double> acc(size_t(c.dim), 0);
      double sum = 0;
      for (int64_t key = first; key <= last; ++key) {
        const double p = std::exp(Score(c, in, row, head, key));
        sum += p;
        for (int64_t d = 0; d < c.dim; ++d) {
          acc[size_t(d)] += p * double(in.v[size_t(g * in.shape.kv_head_stride + key * c.dim + d)]);
        }
      }
      for (double a : acc) out.push_back(a / sum);
    }
  }
  return out;
}

const Case kCases[] = {
    {9, 3, 64, 1, 0, 0, 0},     {9, 3, 64, 1, 200, 0, 0}, {9, 3, 64, 37, 0, 0, 0},
    {4, 4, 16, 20, 131, 0, 0},  {8, 2, 20, 70, 3, 0, 0},  {14, 2, 64, 1, 63, 0, 0},
    {4, 1, 128, 5, 150, 64, 0}, {2, 2, 7, 90, 40, 17, 0}, {6, 2, 32, 66, 10, 0, 5.0},
    {3, 1, 33, 3, 128, 1, 0},   {20, 1, 48, 2, 70, 0, 0},
};

TEST(CachedAttention, EqualsNaive) {
  ForEachLevel([] {
    for (const Case& c : kCases) {
      const Inputs in(c, 1);
      Guarded<float> out(c.n_q * c.heads * c.dim, NAN);
      const auto seq = in.Rows(c, 0, c.n_q, out.data());
      retort_cached_attention_f32(&in.shape, &seq, 1, 2);
      ExpectNear(out.view(), NaiveAttention(c, in), 5e-6, "out");
    }
  });
}

TEST(CachedAttention, ARowsBitsDoNotDependOnItsBlockOrTheThreads) {
  ForEachLevel([] {
    for (const Case& c : kCases) {
      const Inputs in(c, 2);
      const size_t n = size_t(c.n_q * c.heads * c.dim);
      std::vector<float> whole(n), by_row(n);
      const auto seq = in.Rows(c, 0, c.n_q, whole.data());
      retort_cached_attention_f32(&in.shape, &seq, 1, 1);
      std::vector<retort_attention_sequence_f32> rows;  // decoding: one row at a time
      for (int64_t r = 0; r < c.n_q; ++r) rows.push_back(in.Rows(c, r, 1, by_row.data()));
      retort_cached_attention_f32(&in.shape, rows.data(), c.n_q, 2);
      EXPECT_EQ(whole, by_row);
    }
  });
}

TEST(CachedAttention, LargeScoresDoNotOverflow) {
  ForEachLevel([] {
    const Case c = {1, 1, 16, 1, 99, 0, 0};
    Inputs in(c, 3);
    for (float& x : in.q) x *= 300;
    std::vector<float> out(16);
    const auto seq = in.Rows(c, 0, 1, out.data());
    retort_cached_attention_f32(&in.shape, &seq, 1, 1);
    for (float x : out) EXPECT_TRUE(std::isfinite(x));
  });
}

}  // namespace
}  // namespace retort::kernels
