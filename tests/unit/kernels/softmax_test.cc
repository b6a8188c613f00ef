// SPDX-License-Identifier: Apache-2.0
#include "retort/kernels/softmax.h"

#include "retort/kernels/optimizer.h"
#include "tests/unit/kernels/kernel_testing.h"

namespace retort::kernels {
namespace {

struct NaiveRow {
  double lse = 0, entropy = 0, mean = 0;
  std::vector<double> p;
};

template <class S>
NaiveRow Naive(const S* x, int64_t cols, double scale = 1) {
  NaiveRow row;
  double max = -INFINITY, sum = 0;
  for (int64_t c = 0; c < cols; ++c) max = std::max(max, scale * double(x[c]));
  for (int64_t c = 0; c < cols; ++c) sum += std::exp(scale * double(x[c]) - max);
  row.lse = max + std::log(sum);
  for (int64_t c = 0; c < cols; ++c) {
    const double logp = scale * double(x[c]) - row.lse;
    row.p.push_back(std::exp(logp));
    if (row.p.back() > 0) row.entropy -= row.p.back() * logp;
    row.mean += double(x[c]) / double(cols);
  }
  return row;
}

TEST(RowReductions, EqualNaive) {
  ForEachLevel([] {
    for (int64_t cols : kSizes) {
      const int64_t rows = 3, stride = cols + 2;
      const auto x = Random<float>(rows * stride, uint32_t(cols), 5);
      const std::vector<int64_t> index = {0, -1, cols - 1};
      for (double scale : {1.0, 1 / 0.7}) {
        std::vector<double> lse, logp, entropy;
        for (int64_t r = 0; r < rows; ++r) {
          const float* row = x.data() + r * stride;
          const NaiveRow n = Naive(row, cols, scale);
          const int64_t y = index[size_t(r)];
          lse.push_back(n.lse);
          entropy.push_back(n.entropy);
          logp.push_back(y < 0 ? 0 : scale * double(row[y]) - n.lse);
        }
        Guarded<float> got_lse(rows), got_logp(rows), got_entropy(rows);
        retort_row_logsumexp_f32(x.data(), stride, rows, cols, scale, got_lse.data(), 2);
        retort_row_logp_f32(x.data(), stride, rows, cols, scale, index.data(), got_logp.data(),
                            got_entropy.data(), 2);
        ExpectNear(got_lse.view(), lse, 1e-6, "lse");
        ExpectNear(got_logp.view(), logp, 1e-6, "logp");
        ExpectNear(got_entropy.view(), entropy, 2e-6, "entropy");
      }
    }
  });
}

TEST(RowReductions, LogPBackwardEqualsNaive) {
  ForEachLevel([] {
    for (int64_t cols : kSizes) {
      const int64_t rows = 3, stride = cols + 3;
      auto x = Random<float>(rows * stride, uint32_t(cols) + 9, 4);
      if (cols > 2) x[1] = -INFINITY;
      const std::vector<int64_t> index = {0, -1, cols - 1};
      const std::vector<float> d_logp = {0.7f, 3, -1.2f}, d_entropy = {0.3f, 2, -0.4f};
      const double scale = 1 / 0.7;
      std::vector<float> logp(3, 0.0f), entropy(3, 0.0f);
      retort_row_logp_f32(x.data(), stride, rows, cols, scale, index.data(), logp.data(),
                          entropy.data(), 2);
      std::vector<double> want;
      for (int64_t r = 0; r < rows; ++r) {
        const NaiveRow n = Naive(x.data() + r * stride, cols, scale);
        const int64_t y = index[size_t(r)];
        for (int64_t c = 0; c < stride; ++c) {
          const auto at = size_t(c);
          if (c >= cols || y < 0) {
            want.push_back(c >= cols ? double(x[size_t(r * stride + c)]) : 0);
            continue;
          }
          const double p = n.p[at], log_p = p > 0 ? std::log(p) : 0;
          want.push_back(scale * (double(d_logp[size_t(r)]) * ((c == y ? 1 : 0) - p) -
                                  double(d_entropy[size_t(r)]) * p * (log_p + n.entropy)));
        }
      }
      const retort_logp_backward_shape shape = {
          .rows = rows, .cols = cols, .stride = stride, .scale = scale};
      retort_row_logp_backward_f32(&shape, x.data(), index.data(), logp.data(), entropy.data(),
                                   d_logp.data(), d_entropy.data(), 2);
      for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(double(x[i]), want[i], 3e-6) << i;
    }
  });
}

TEST(RowReductions, ExpIsAccurateOverItsRange) {
  ForEachLevel([] {
    const int64_t n = 175000;
    std::vector<float> x(size_t(n), 0.0f);
    for (int64_t i = 0; i < n; ++i) x[size_t(i)] = static_cast<float>(-87.3 + double(i) * 1e-3);
    std::vector<float> p(x.size());
    std::vector<double> sums(size_t(n) / 256 + 1);
    retort_exp_blocks_f32(x.data(), n, 1, 0, p.data(), sums.data());
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double want = std::exp(double(x[i]));
      worst = std::max(worst, std::fabs(double(p[i]) - want) / want);
    }
    EXPECT_LT(worst, 2e-7);  // a little over one unit in the last place
    const std::vector<float> edge = {-INFINITY, -200, 0, 88.7f, 89, INFINITY, NAN};
    retort_exp_blocks_f32(edge.data(), 7, 1, 0, p.data(), sums.data());
    EXPECT_EQ(p[0], 0);
    EXPECT_EQ(p[1], 0);
    EXPECT_EQ(p[2], 1);
    EXPECT_NEAR(p[3] / std::exp(88.7), 1, 1e-5);
    EXPECT_EQ(p[4], INFINITY);
    EXPECT_EQ(p[5], INFINITY);
    EXPECT_TRUE(std::isnan(p[6]));
  });
}

TEST(RowReductions, ExpBlocksSumWhatTheyStore) {
  ForEachLevel([] {
    const int64_t n = 1031;
    const auto x = Random<float>(n, 3, 4);
    std::vector<float> p(static_cast<size_t>(n), 0.0f);
    double sums[5] = {};
    const double total = retort_exp_blocks_f32(x.data(), n, 0.5, 6, p.data(), sums);
    double all = 0;
    for (size_t b = 0; b < 5; ++b) {
      double sum = 0;
      for (size_t i = b * 256; i < std::min<size_t>(b * 256 + 256, size_t(n)); ++i) {
        sum += double(p[i]);
        ASSERT_NEAR(double(p[i]), std::exp((double(x[i]) - 6) / 2), 1e-6);
      }
      EXPECT_NEAR(sums[b], sum, 1e-5 * sum);
      all += sums[b];
    }
    EXPECT_DOUBLE_EQ(total, all);
  });
}

TEST(LogitBins, CountAndSumEveryColumnOnce) {
  ForEachLevel([] {
    for (int64_t cols : kSizes) {
      for (double spread :
           {0.5, 5.0, 40.0}) {  // all near the top, both, nearly all in the last bin
        std::vector<float> x = Random<float>(cols, uint32_t(cols), spread);
        if (cols > 2) x[1] = -INFINITY;
        const float max = *std::max_element(x.begin(), x.end());
        const int64_t n_bins = 100;
        const float rate = 7.3f;
        std::vector<float> p;
        std::vector<double> masses(size_t(n_bins), 0.0);
        std::vector<int64_t> counts(size_t(n_bins), 0);
        std::vector<std::vector<int32_t>> ids{size_t(n_bins)};
        for (int64_t c = 0; c < cols; ++c) {
          p.push_back(std::exp(x[size_t(c)] - max));
          const auto bin = size_t(std::min((max - x[size_t(c)]) * rate, float(n_bins - 1)));
          ++counts[bin];
          masses[bin] += double(p.back());
          ids[bin].push_back(int32_t(c));
        }
        Guarded<int64_t> got(n_bins, -1);
        Guarded<double> got_masses(n_bins, NAN);
        retort_logit_bins_f32(x.data(), p.data(), cols, max, rate, n_bins, got.data(),
                              got_masses.data());
        EXPECT_TRUE(std::equal(counts.begin(), counts.end(), got.view().begin()));
        ExpectNear(got_masses.view(), masses, 1e-6, "mass");
        for (int64_t bin = 0; bin < n_bins; ++bin) {
          Guarded<int32_t> in_bin(counts[size_t(bin)], -1);
          const int64_t n =
              retort_logit_bin_ids_f32(x.data(), cols, max, rate, n_bins, bin, in_bin.data());
          ASSERT_EQ(n, counts[size_t(bin)]);
          EXPECT_TRUE(
              std::equal(ids[size_t(bin)].begin(), ids[size_t(bin)].end(), in_bin.view().begin()));
        }
      }
    }
  });
}

TEST(ArgMax, LowestIndexWinsTiesAndNaNNeverWins) {
  ForEachLevel([] {
    for (int64_t cols : kSizes) {
      auto x = Random<float>(2 * cols, 1);
      const int64_t first = cols / 3, second = cols - 1;
      x[size_t(first)] = x[size_t(second)] = 50;
      x[size_t(cols + second)] = 60;
      if (cols > 2) x[0] = x[size_t(cols)] = NAN;
      int32_t index[2] = {-1, -1};
      float max[2] = {};
      retort_row_argmax_f32(x.data(), 0, 2, cols, index, max, 2);
      EXPECT_EQ(index[0], cols > 2 && first == 0 ? second : first);
      EXPECT_EQ(index[1], second);
      EXPECT_EQ(max[0], 50);
      EXPECT_EQ(max[1], 60);
    }
    const std::vector<float> nan(20, NAN);
    int32_t index = 7;
    retort_row_argmax_f32(nan.data(), 0, 1, 20, &index, nullptr, 1);
    EXPECT_EQ(index, 0);
  });
}

// loss per row as documented; gradients by formula from f64 probabilities.
struct CeReference {
  std::vector<double> loss, nll, entropy, grad;
};
CeReference NaiveCe(const retort_cross_entropy_shape& s, const std::vector<double>& x,
                    const std::vector<int64_t>& labels, const std::vector<double>& weight) {
  CeReference ref;
  for (int64_t r = 0; r < s.rows; ++r) {
    const double* row = x.data() + r * s.cols;
    const NaiveRow n = Naive(row, s.cols);
    const int64_t y = labels[size_t(r)];
    const double e = s.label_smoothing, w = weight[size_t(r)];
    const double nll = y < 0 ? 0 : n.lse - row[y];
    ref.nll.push_back(nll);
    ref.entropy.push_back(y < 0 ? 0 : n.entropy);
    ref.loss.push_back(y < 0 ? 0 : (1 - e) * nll + e * (n.lse - n.mean) + s.z_loss * n.lse * n.lse);
    for (int64_t c = 0; c < s.cols; ++c) {
      const double p = n.p[size_t(c)];
      const double g = p * (1 + 2 * s.z_loss * n.lse) - e / double(s.cols) - (c == y ? 1 - e : 0);
      ref.grad.push_back(y < 0 ? 0 : w * g);
    }
  }
  return ref;
}

TEST(CrossEntropy, LossAndGradientInPlace) {
  ForEachLevel([] {
    for (int64_t cols : kSizes) {
      for (double smoothing : {0.0, 0.1}) {
        const retort_cross_entropy_shape shape = {.rows = 4,
                                                  .cols = cols,
                                                  .stride = 0,
                                                  .label_smoothing = smoothing,
                                                  .z_loss = smoothing / 100};
        const auto x = Random<float>(4 * cols, uint32_t(cols) + 9, 3);
        const std::vector<int64_t> labels = {0, cols - 1, -100, cols / 2};
        const std::vector<float> weight = {1, 0.25f, 3, 0.5f};
        const CeReference ref =
            NaiveCe(shape, {x.begin(), x.end()}, labels, {weight.begin(), weight.end()});
        Guarded<float> grad(x), loss(4), nll(4), entropy(4);
        retort_cross_entropy_f32(&shape, grad.data(), labels.data(), weight.data(), loss.data(),
                                 nll.data(), entropy.data(), 2);
        ExpectNear(loss.view(), ref.loss, 2e-6, "loss");
        ExpectNear(nll.view(), ref.nll, 2e-6, "nll");
        ExpectNear(entropy.view(), ref.entropy, 3e-6, "entropy");
        ExpectNear(grad.view(), ref.grad, 1e-6, "gradient");
        Guarded<double> grad64(std::vector<double>(x.begin(), x.end()));
        const std::vector<double> weight64(weight.begin(), weight.end());
        retort_cross_entropy_f64(&shape, grad64.data(), labels.data(), weight64.data(), nullptr,
                                 nullptr, nullptr, 1);
        ExpectNear(grad64.view(), ref.grad, 1e-12, "gradient f64");
      }
    }
  });
}

// The formula above against central differences of the documented loss, so that both can't share
// a mistake.
TEST(CrossEntropy, GradientIsTheSlopeOfTheLoss) {
  const retort_cross_entropy_shape shape = {
      .rows = 1, .cols = 23, .stride = 0, .label_smoothing = 0.2, .z_loss = 0.01};
  auto x = Random<double>(23, 5, 2);
  const int64_t label = 7;
  std::vector<double> grad = x, loss(1);
  retort_cross_entropy_f64(&shape, grad.data(), &label, nullptr, nullptr, nullptr, nullptr, 1);
  for (size_t i = 0; i < x.size(); ++i) {
    double at[2];
    for (int side : {0, 1}) {
      std::vector<double> moved = x;
      moved[i] += side == 0 ? 1e-5 : -1e-5;
      retort_cross_entropy_f64(&shape, moved.data(), &label, nullptr, loss.data(), nullptr, nullptr,
                               1);
      at[side] = loss[0];
    }
    EXPECT_NEAR(grad[i], (at[0] - at[1]) / 2e-5, 1e-9) << i;
  }
}

TEST(CrossEntropy, NotANumberReachesTheLoss) {
  ForEachLevel([] {
    std::vector<float> x(100, 1.0f);
    x[40] = NAN;
    const retort_cross_entropy_shape shape = {
        .rows = 1, .cols = 100, .stride = 0, .label_smoothing = 0, .z_loss = 0};
    const int64_t label = 3;
    float loss = 0;
    retort_cross_entropy_f32(&shape, x.data(), &label, nullptr, &loss, nullptr, nullptr, 1);
    EXPECT_TRUE(std::isnan(loss));
  });
}

TEST(AdamW, EqualsTheFormulaOverSteps) {
  ForEachLevel([] {
    for (int64_t n : kSizes) {
      Guarded<float> p(Random<float>(n, 1)), m(n), v(n);
      std::vector<double> p64(p.view().begin(), p.view().end()), m64(size_t(n), 0),
          v64(size_t(n), 0);
      for (int step = 1; step <= 5; ++step) {
        const auto g = Random<float>(n, uint32_t(step + 10));
        retort_adamw_params h = {.learning_rate = 1e-2,
                                 .beta1 = 0.9,
                                 .beta2 = 0.99,
                                 .eps = 1e-8,
                                 .weight_decay = 0.1,
                                 .bias_correction1 = 1 - std::pow(0.9, step),
                                 .bias_correction2 = 1 - std::pow(0.99, step),
                                 .grad_scale = 0.5};
        retort_adamw_f32(&h, p.data(), g.data(), m.data(), v.data(), n, 2);
        for (size_t i = 0; i < p64.size(); ++i) {
          const double gi = double(g[i]) * 0.5;
          m64[i] = 0.9 * m64[i] + 0.1 * gi;
          v64[i] = 0.99 * v64[i] + 0.01 * gi * gi;
          p64[i] -= 1e-2 * 0.1 * p64[i];
          p64[i] -= 1e-2 * (m64[i] / h.bias_correction1) /
                    (std::sqrt(v64[i] / h.bias_correction2) + 1e-8);
        }
      }
      ExpectNear(p.view(), p64, 2e-6, "p");
      ExpectNear(m.view(), m64, 1e-6, "m");
      ExpectNear(v.view(), v64, 1e-6, "v");
    }
  });
}

TEST(SumSquares, IsAccurateAndTheSameForAnyThreadCount) {
  ForEachLevel([] {
    for (int64_t n : {int64_t{0}, int64_t{1}, int64_t{4097}, int64_t{300007}}) {
      const auto x = Random<float>(n, 4);
      double want = 0;
      for (float v : x) want += double(v) * double(v);
      const double one = retort_sum_squares_f32(x.data(), n, 1);
      EXPECT_NEAR(one, want, 1e-6 * want);
      EXPECT_EQ(one, retort_sum_squares_f32(x.data(), n, 2));
      EXPECT_EQ(one, retort_sum_squares_f32(x.data(), n, 3));
      const std::vector<double> x64(x.begin(), x.end());
      EXPECT_NEAR(retort_sum_squares_f64(x64.data(), n, 2), want, 1e-12 * want);
    }
  });
}

}  // namespace
}  // namespace retort::kernels
