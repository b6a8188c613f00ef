// Training attention against plain loops in f64, forward and backward; and that its bits depend on
// neither threads nor neighbours.
// SPDX-License-Identifier: Apache-2.0
#include "retort/kernels/attention_train.h"

#include "tests/unit/kernels/kernel_testing.h"

namespace retort::kernels {
namespace {

struct Case {
  int64_t heads, kv_heads, dim;
  std::vector<int32_t> cu_seqlens;
  int64_t window = 0;
  double soft_cap = 0;
  int64_t rows() const { return cu_seqlens.back(); }
};

const Case kCases[] = {
    {1, 1, 1, {0, 1}},
    {2, 1, 16, {0, 64, 128}},
    {9, 3, 64, {0, 130}},
    {4, 4, 20, {0, 3, 3, 50, 147}},
    {14, 2, 33, {0, 48, 49, 110}},
    {3, 1, 80, {0, 97}, 17},
    {2, 2, 128, {0, 60, 161}, 48},
    {6, 2, 32, {0, 100}, 0, 5.0},
    {5, 1, 7, {0, 31, 131}, 64, 2.0},
    {4, 2, 48, {0, 145}, 1},
    {1, 1, 24, {0, 200}, 120},
};

template <class S>
struct Tensors {
  std::vector<S> q, k, v, d_out;
  explicit Tensors(const Case& c)
      : q(Random<S>(c.rows() * c.heads * c.dim, 1)),
        k(Random<S>(c.rows() * c.kv_heads * c.dim, 2)),
        v(Random<S>(c.rows() * c.kv_heads * c.dim, 3)),
        d_out(Random<S>(c.rows() * c.heads * c.dim, 4)) {}
};

retort_train_attention_shape ShapeOf(const Case& c) {
  return {.n_heads = c.heads,
          .n_kv_heads = c.kv_heads,
          .head_dim = c.dim,
          .window = c.window,
          .scale = 1 / std::sqrt(double(c.dim)),
          .soft_cap = c.soft_cap,
          .n_sequences = int64_t(c.cu_seqlens.size()) - 1,
          .cu_seqlens = c.cu_seqlens.data(),
          .q_stride = 0,
          .k_stride = 0,
          .v_stride = 0,
          .out_stride = 0,
          .dq_stride = 0,
          .dk_stride = 0,
          .dv_stride = 0,
          .d_out_stride = 0};
}

struct Expected {
  std::vector<double> out, lse, dq, dk, dv;
};

// Row i of a head against its visible keys, from the definition: softmax over raw scores and its
// Jacobian written out.
template <class S>
void AddRow(const Case& c, const Tensors<S>& t, int64_t begin, int64_t i, int64_t head,
            Expected* e) {
  const int64_t g = head / (c.heads / c.kv_heads), dim = c.dim;
  const int64_t first = c.window > 0 ? std::max(begin, i - c.window + 1) : begin;
  const auto q = [&](int64_t d) { return size_t((i * c.heads + head) * dim + d); };
  const auto kv = [&](int64_t j, int64_t d) { return size_t((j * c.kv_heads + g) * dim + d); };
  const double scale = 1 / std::sqrt(double(dim));
  std::vector<double> p, slope, dp;
  double total = 0;
  for (int64_t j = first; j <= i; ++j) {
    double s = 0, from_out = 0;
    for (int64_t d = 0; d < dim; ++d) {
      s += double(t.q[q(d)]) * double(t.k[kv(j, d)]) * scale;
      from_out += double(t.d_out[q(d)]) * double(t.v[kv(j, d)]);
    }
    const double tanh = c.soft_cap > 0 ? std::tanh(s / c.soft_cap) : 0;
    p.push_back(std::exp(c.soft_cap > 0 ? c.soft_cap * tanh : s));
    slope.push_back(c.soft_cap > 0 ? 1 - tanh * tanh : 1);
    dp.push_back(from_out);
    total += p.back();
  }
  double mean = 0;
  for (size_t j = 0; j < p.size(); ++j) mean += (p[j] /= total) * dp[j];
  e->lse[size_t(i * c.heads + head)] = std::log(total);
  for (size_t n = 0; n < p.size(); ++n) {
    const int64_t j = first + int64_t(n);
    const double ds = p[n] * (dp[n] - mean) * slope[n] * scale;
    for (int64_t d = 0; d < dim; ++d) {
      e->out[q(d)] += p[n] * double(t.v[kv(j, d)]);
      e->dv[kv(j, d)] += p[n] * double(t.d_out[q(d)]);
      e->dq[q(d)] += ds * double(t.k[kv(j, d)]);
      e->dk[kv(j, d)] += ds * double(t.q[q(d)]);
    }
  }
}

template <class S>
Expected Naive(const Case& c, const Tensors<S>& t) {
  Expected e{.out = std::vector<double>(t.q.size()),
             .lse = std::vector<double>(size_t(c.rows() * c.heads)),
             .dq = std::vector<double>(t.q.size()),
             .dk = std::vector<double>(t.k.size()),
             .dv = std::vector<double>(t.k.size())};
  for (size_t s = 0; s + 1 < c.cu_seqlens.size(); ++s) {
    for (int64_t i = c.cu_seqlens[s]; i < c.cu_seqlens[s + 1]; ++i) {
      for (int64_t h = 0; h < c.heads; ++h) AddRow(c, t, c.cu_seqlens[s], i, h, &e);
    }
  }
  return e;
}

// What one call after the other gives.
template <class S>
struct Results {
  Guarded<S> out, lse, dq, dk, dv;
  Results(const Case& c, const Tensors<S>& t, int n_threads)
      : out(int64_t(t.q.size()), S(NAN)),
        lse(c.rows() * c.heads, S(NAN)),
        dq(int64_t(t.q.size()), S(NAN)),
        dk(int64_t(t.k.size()), S(NAN)),
        dv(int64_t(t.k.size()), S(NAN)) {
    const retort_train_attention_shape shape = ShapeOf(c);
    int64_t longest = 0;
    for (size_t s = 0; s + 1 < c.cu_seqlens.size(); ++s) {
      longest = std::max<int64_t>(longest, c.cu_seqlens[s + 1] - c.cu_seqlens[s]);
    }
    const auto bytes = [&](int backward) {
      if constexpr (sizeof(S) == 4) {
        return retort_train_attention_scratch_f32(&shape, longest, backward, n_threads);
      } else {
        return retort_train_attention_scratch_f64(&shape, longest, backward, n_threads);
      }
    };
    Run(shape, t, bytes(0), bytes(1), n_threads);
  }

 private:
  void Run(const retort_train_attention_shape& shape, const Tensors<S>& t, int64_t forward,
           int64_t backward, int n_threads) {
    // Full of NaN, and guarded: scratch is neither trusted nor overrun.
    Guarded<S> small(forward / int64_t(sizeof(S)), S(NAN));
    Guarded<S> large(backward / int64_t(sizeof(S)), S(NAN));
    if constexpr (sizeof(S) == 4) {
      retort_train_attention_f32(&shape, t.q.data(), t.k.data(), t.v.data(), out.data(), lse.data(),
                                 small.data(), n_threads);
      retort_train_attention_backward_f32(&shape, t.d_out.data(), t.q.data(), t.k.data(),
                                          t.v.data(), out.data(), lse.data(), dq.data(), dk.data(),
                                          dv.data(), large.data(), n_threads);
    } else {
      retort_train_attention_f64(&shape, t.q.data(), t.k.data(), t.v.data(), out.data(), lse.data(),
                                 small.data(), n_threads);
      retort_train_attention_backward_f64(&shape, t.d_out.data(), t.q.data(), t.k.data(),
                                          t.v.data(), out.data(), lse.data(), dq.data(), dk.data(),
                                          dv.data(), large.data(), n_threads);
    }
  }
};

template <class S>
void ExpectNaive(const Case& c, double tolerance) {
  const Tensors<S> t(c);
  const Expected want = Naive(c, t);
  for (int threads : {1, 2, 5}) {
    Results<S> got(c, t, threads);
    ExpectNear(got.out.view(), want.out, tolerance, "out");
    ExpectNear(got.lse.view(), want.lse, tolerance, "lse");
    ExpectNear(got.dq.view(), want.dq, 4 * tolerance, "dq");
    ExpectNear(got.dk.view(), want.dk, 4 * tolerance, "dk");
    ExpectNear(got.dv.view(), want.dv, 4 * tolerance, "dv");
  }
}

TEST(TrainAttention, EqualsNaive) {
  ForEachLevel([] {
    for (const Case& c : kCases) {
      SCOPED_TRACE(testing::Message() << c.heads << "/" << c.kv_heads << " x " << c.dim << ", "
                                      << c.rows() << " rows, window " << c.window);
      ExpectNaive<float>(c, 1e-5);
    }
  });
}

TEST(TrainAttention, F64EqualsNaive) {
  for (const Case& c : kCases) ExpectNaive<double>(c, 1e-12);
}

void ExpectSame(const Results<float>& a, const Results<float>& b) {
  const auto same = [](std::span<const float> x, std::span<const float> y) {
    return std::equal(x.begin(), x.end(), y.begin(), y.end());
  };
  EXPECT_TRUE(same(a.out.view(), b.out.view()));
  EXPECT_TRUE(same(a.lse.view(), b.lse.view()));
  EXPECT_TRUE(same(a.dq.view(), b.dq.view()));
  EXPECT_TRUE(same(a.dk.view(), b.dk.view()));
  EXPECT_TRUE(same(a.dv.view(), b.dv.view()));
}

// One thread takes whole heads, many threads take blocks.
TEST(TrainAttention, BitsDoNotDependOnTheThreads) {
  ForEachLevel([] {
    for (const Case& c : kCases) {
      const Tensors<float> t(c);
      const Results<float> one(c, t, 1);
      for (int threads : {2, 3, 16}) ExpectSame(one, Results<float>(c, t, threads));
    }
  });
}

TEST(TrainAttention, ASequencesBitsDoNotDependOnItsNeighbours) {
  ForEachLevel([] {
    const Case alone = {6, 2, 40, {0, 77}, 30};
    const Case packed = {6, 2, 40, {0, 77, 130, 131}, 30};
    const Tensors<float> t(packed);
    Tensors<float> first(alone);
    std::copy_n(t.q.begin(), first.q.size(), first.q.begin());
    std::copy_n(t.k.begin(), first.k.size(), first.k.begin());
    std::copy_n(t.v.begin(), first.v.size(), first.v.begin());
    std::copy_n(t.d_out.begin(), first.d_out.size(), first.d_out.begin());
    const Results<float> a(alone, first, 1), b(packed, t, 2);
    const auto prefix = [](std::span<const float> x, std::span<const float> y) {
      return std::equal(x.begin(), x.end(), y.begin());
    };
    EXPECT_TRUE(prefix(a.out.view(), b.out.view()));
    EXPECT_TRUE(prefix(a.lse.view(), b.lse.view()));
    EXPECT_TRUE(prefix(a.dq.view(), b.dq.view()));
    EXPECT_TRUE(prefix(a.dk.view(), b.dk.view()));
    EXPECT_TRUE(prefix(a.dv.view(), b.dv.view()));
  });
}

TEST(TrainAttention, RowsMayLieApart) {
  ForEachLevel([] {
    const Case c = {4, 2, 24, {0, 70}};
    const Tensors<float> t(c);
    const Results<float> packed(c, t, 1);
    // q, k and v as columns of one matrix of merged projections.
    const int64_t q_width = 4 * 24, kv_width = 2 * 24, width = q_width + 2 * kv_width;
    std::vector<float> merged(size_t(70 * width));
    for (int64_t r = 0; r < 70; ++r) {
      std::copy_n(&t.q[size_t(r * q_width)], q_width, &merged[size_t(r * width)]);
      std::copy_n(&t.k[size_t(r * kv_width)], kv_width, &merged[size_t(r * width + q_width)]);
      std::copy_n(&t.v[size_t(r * kv_width)], kv_width,
                  &merged[size_t(r * width + q_width + kv_width)]);
    }
    retort_train_attention_shape shape = ShapeOf(c);
    shape.q_stride = shape.k_stride = shape.v_stride = width;
    std::vector<float> out(size_t(70 * q_width)),
        scratch(size_t(retort_train_attention_scratch_f32(&shape, 70, 0, 2) / 4));
    retort_train_attention_f32(&shape, merged.data(), merged.data() + q_width,
                               merged.data() + q_width + kv_width, out.data(), nullptr,
                               scratch.data(), 2);
    for (int64_t r = 0; r < 70; ++r) {
      for (int64_t d = 0; d < q_width; ++d) {
        ASSERT_EQ(out[size_t(r * q_width + d)], packed.out.view()[size_t(r * q_width + d)]);
      }
    }
    // Gradients may lie otherwise: dq with a gap, dk and dv side by side, d_out as it was.
    shape.dq_stride = q_width + 3;
    shape.dk_stride = shape.dv_stride = 2 * kv_width;
    std::vector<float> dq(size_t(70 * (q_width + 3)), 7.0f), d_kv(size_t(70 * 2 * kv_width)),
        more(size_t(retort_train_attention_scratch_f32(&shape, 70, 1, 2) / 4));
    retort_train_attention_backward_f32(&shape, t.d_out.data(), merged.data(),
                                        merged.data() + q_width, merged.data() + q_width + kv_width,
                                        out.data(), packed.lse.view().data(), dq.data(),
                                        d_kv.data(), d_kv.data() + kv_width, more.data(), 2);
    for (int64_t r = 0; r < 70; ++r) {
      for (int64_t d = 0; d < q_width + 3; ++d) {
        ASSERT_EQ(dq[size_t(r * (q_width + 3) + d)],
                  d < q_width ? packed.dq.view()[size_t(r * q_width + d)] : 7.0f);
      }
      for (int64_t d = 0; d < kv_width; ++d) {
        ASSERT_EQ(d_kv[size_t(r * 2 * kv_width + d)], packed.dk.view()[size_t(r * kv_width + d)]);
        ASSERT_EQ(d_kv[size_t(r * 2 * kv_width + kv_width + d)],
                  packed.dv.view()[size_t(r * kv_width + d)]);
      }
    }
  });
}

TEST(TrainAttention, LargeScoresDoNotOverflow) {
  ForEachLevel([] {
    const Case c = {2, 1, 16, {0, 99}};
    Tensors<float> t(c);
    for (float& x : t.q) x *= 300;
    const Results<float> got(c, t, 2);
    for (float x : got.out.view()) ASSERT_TRUE(std::isfinite(x));
    for (float x : got.dk.view()) ASSERT_TRUE(std::isfinite(x));
  });
}

}  // namespace
}  // namespace retort::kernels
