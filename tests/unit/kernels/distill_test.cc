// Distillation rows against the formulas in f64, and their gradients against central differences.
// SPDX-License-Identifier: Apache-2.0
#include "retort/kernels/distill.h"

#include "tests/unit/kernels/kernel_testing.h"

namespace retort::kernels {
namespace {

retort_kd_shape ShapeOf(int64_t rows, int64_t cols, int divergence, double temperature = 1,
                        double beta = 0.5) {
  return {.rows = rows,
          .cols = cols,
          .student_stride = 0,
          .teacher_stride = 0,
          .divergence = divergence,
          .reserved = 0,
          .temperature = temperature,
          .jsd_beta = beta,
          .kd_scale = 1,
          .ce_scale = 0};
}

template <class S>
std::vector<double> Softmax(const S* x, int64_t cols, double temperature) {
  double top = -INFINITY, sum = 0;
  for (int64_t c = 0; c < cols; ++c) top = std::max(top, double(x[c]));
  std::vector<double> p;
  for (int64_t c = 0; c < cols; ++c) p.push_back(std::exp((double(x[c]) - top) / temperature));
  for (double e : p) sum += e;
  for (double& e : p) e /= sum;
  return p;
}

double Kl(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] > 0) sum += a[i] * std::log(a[i] / b[i]);
  }
  return sum;
}

double Entropy(const std::vector<double>& p) {
  double sum = 0;
  for (double x : p) sum -= x > 0 ? x * std::log(x) : 0;
  return sum;
}

double Distance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::abs(a[i] - b[i]) / 2;
  return sum;
}

// By the definitions, no log-space care.
template <class S>
double Divergence(const retort_kd_shape& s, const S* student, const S* teacher) {
  const std::vector<double> q = Softmax(student, s.cols, s.temperature);
  const std::vector<double> p = Softmax(teacher, s.cols, s.temperature);
  if (s.divergence == RETORT_KERNELS_FORWARD_KL) return Kl(p, q);
  if (s.divergence == RETORT_KERNELS_REVERSE_KL) return Kl(q, p);
  if (s.divergence == RETORT_KERNELS_TOTAL_VARIATION) return Distance(q, p);
  std::vector<double> m;
  for (size_t i = 0; i < p.size(); ++i) {
    m.push_back(s.jsd_beta * p[i] + (1 - s.jsd_beta) * q[i]);
  }
  return s.jsd_beta * Kl(p, m) + (1 - s.jsd_beta) * Kl(q, m);
}

template <class S>
double Nll(const S* x, int64_t cols, int64_t label) {
  return -std::log(Softmax(x, cols, 1)[size_t(label)]);
}

struct Choice {
  int divergence;
  double temperature, beta;
};
const Choice kChoices[] = {{RETORT_KERNELS_FORWARD_KL, 1, 0},
                           {RETORT_KERNELS_FORWARD_KL, 3, 0.5},
                           {RETORT_KERNELS_REVERSE_KL, 0.9, 1},
                           {RETORT_KERNELS_JSD, 1, 0.5},
                           {RETORT_KERNELS_JSD, 2, 0.1},
                           {RETORT_KERNELS_JSD, 0.7, 0.95},
                           {RETORT_KERNELS_TOTAL_VARIATION, 1, 0.5},
                           {RETORT_KERNELS_TOTAL_VARIATION, 2.5, 0.5}};

TEST(KdRows, ValuesEqualTheDefinitionsAtAwkwardSizes) {
  ForEachLevel([] {
    for (const Choice& choice : kChoices) {
      for (int64_t cols : kSizes) {
        retort_kd_shape s = ShapeOf(3, cols, choice.divergence, choice.temperature, choice.beta);
        s.student_stride = cols + 1;
        s.teacher_stride = cols + 5;
        Guarded<float> student(Random<float>(3 * (cols + 1), uint32_t(cols), 2));
        const auto teacher = Random<float>(3 * (cols + 5), uint32_t(cols + 1), 3);
        const std::vector<int64_t> labels = {0, -1, cols - 1};
        std::vector<double> want, want_nll, want_entropy;
        for (int64_t r = 0; r < 3; ++r) {
          const float* x = student.data() + r * (cols + 1);
          want.push_back(Divergence(s, x, teacher.data() + r * (cols + 5)));
          want_entropy.push_back(
              Entropy(Softmax(teacher.data() + r * (cols + 5), cols, choice.temperature)));
          want_nll.push_back(r == 1 ? 0 : Nll(x, cols, labels[size_t(r)]));
        }
        Guarded<float> d(3), nll(3), entropy(3);
        const float between = student.data()[cols];
        retort_kd_rows_f32(&s, student.data(), teacher.data(), labels.data(), nullptr, d.data(),
                           nll.data(), entropy.data(), 2);
        ExpectNear(d.view(), want, 2e-5, "divergence");
        ExpectNear(entropy.view(), want_entropy, 2e-5, "entropy of the teacher");
        ExpectNear(nll.view(), want_nll, 2e-6, "nll");
        EXPECT_EQ(student.data()[cols], between) << "written between the rows";
      }
    }
  });
}

TEST(KdRows, GradientIsTheSlopeOfTheMixedLoss) {
  const int64_t cols = 37, label = 5;
  for (const Choice& choice : kChoices) {
    retort_kd_shape s = ShapeOf(1, cols, choice.divergence, choice.temperature, choice.beta);
    s.kd_scale = 1.7;
    s.ce_scale = 0.3;
    std::vector<double> x = Random<double>(cols, 1, 2);
    const auto teacher = Random<double>(cols, 2, 2);
    const auto loss = [&] {
      return 0.25 *
             (1.7 * Divergence(s, x.data(), teacher.data()) + 0.3 * Nll(x.data(), cols, label));
    };
    std::vector<double> want;
    for (double& z : x) {
      const double step = 1e-5, at = z;
      z = at + step;
      const double above = loss();
      z = at - step;
      want.push_back((above - loss()) / (2 * step));
      z = at;
    }
    const double weight = 0.25;
    std::vector<double> got = x;
    retort_kd_rows_f64(&s, got.data(), teacher.data(), &label, &weight, nullptr, nullptr, nullptr,
                       1);
    ExpectNear<double>(got, want, 1e-9, "gradient");
  }
}

TEST(KdRows, F32EqualsF64) {
  ForEachLevel([] {
    for (const Choice& choice : kChoices) {
      for (int64_t cols : {1, 16, 97, 1031}) {
        retort_kd_shape s = ShapeOf(2, cols, choice.divergence, choice.temperature, choice.beta);
        s.kd_scale = 2;
        s.ce_scale = 0.5;
        Guarded<float> x(Random<float>(2 * cols, 1, 4));
        const auto teacher = Random<float>(2 * cols, 2, 4);
        std::vector<double> wide(x.view().begin(), x.view().end());
        const std::vector<double> wide_teacher(teacher.begin(), teacher.end());
        const std::vector<int64_t> labels = {cols - 1, -1};
        const float weight[] = {1.5f, 0.5f};
        const double wide_weight[] = {1.5, 0.5};
        retort_kd_rows_f32(&s, x.data(), teacher.data(), labels.data(), weight, nullptr, nullptr,
                           nullptr, 2);
        retort_kd_rows_f64(&s, wide.data(), wide_teacher.data(), labels.data(), wide_weight,
                           nullptr, nullptr, nullptr, 1);
        ExpectNear(x.view(), wide, 2e-6, "gradient");
      }
    }
  });
}

TEST(KdRows, EqualRowsGiveZero) {
  ForEachLevel([] {
    for (const Choice& choice : kChoices) {
      const retort_kd_shape s = ShapeOf(1, 501, choice.divergence, choice.temperature, choice.beta);
      const auto teacher = Random<float>(501, 1, 6);
      std::vector<float> student = teacher;
      float d = 1;
      retort_kd_rows_f32(&s, student.data(), teacher.data(), nullptr, nullptr, &d, nullptr, nullptr,
                         1);
      EXPECT_NEAR(d, 0, 1e-6);
      for (float g : student) ASSERT_NEAR(g, 0, 1e-6);
    }
  });
}

// Vocabularies padded with -inf; logits far apart; weight zero.
TEST(KdRows, ColumnsWithoutMassAddNothing) {
  ForEachLevel([] {
    for (const Choice& choice : kChoices) {
      const int64_t cols = 50;
      const retort_kd_shape s =
          ShapeOf(1, cols, choice.divergence, choice.temperature, choice.beta);
      const retort_kd_shape wide =
          ShapeOf(1, cols + 7, choice.divergence, choice.temperature, choice.beta);
      std::vector<float> x = Random<float>(cols, 1, 3), y = Random<float>(cols, 2, 3);
      std::vector<float> x_wide = x, y_wide = y;
      x_wide.resize(size_t(cols + 7), -INFINITY);
      y_wide.resize(size_t(cols + 7), -INFINITY);
      float d = 0, d_wide = 0;
      retort_kd_rows_f32(&s, x.data(), y.data(), nullptr, nullptr, &d, nullptr, nullptr, 1);
      retort_kd_rows_f32(&wide, x_wide.data(), y_wide.data(), nullptr, nullptr, &d_wide, nullptr,
                         nullptr, 1);
      EXPECT_NEAR(d, d_wide, 1e-6);
      for (int64_t c = 0; c < cols + 7; ++c) {
        ASSERT_NEAR(x_wide[size_t(c)], c < cols ? x[size_t(c)] : 0, 1e-6) << c;
      }
    }
  });
}

TEST(KdRows, LogitsFarApartStayFinite) {
  ForEachLevel([] {
    for (const Choice& choice : kChoices) {
      const retort_kd_shape s = ShapeOf(1, 3, choice.divergence, choice.temperature, choice.beta);
      std::vector<float> x = {300, -300, 0};
      const std::vector<float> y = {-300, 300, 10};
      float d = 0;
      retort_kd_rows_f32(&s, x.data(), y.data(), nullptr, nullptr, &d, nullptr, nullptr, 1);
      EXPECT_TRUE(std::isfinite(d));
      for (float g : x) EXPECT_TRUE(std::isfinite(g));
    }
  });
}

TEST(KdRows, AWeightOfZeroClearsTheRow) {
  ForEachLevel([] {
    const retort_kd_shape s = ShapeOf(1, 20, RETORT_KERNELS_REVERSE_KL);
    std::vector<float> x = Random<float>(20, 1), y = Random<float>(20, 2);
    y[3] = -INFINITY;  // infinite divergence
    float d = 0;
    const float weight = 0;
    retort_kd_rows_f32(&s, x.data(), y.data(), nullptr, &weight, &d, nullptr, nullptr, 1);
    EXPECT_EQ(d, INFINITY);
    EXPECT_EQ(x, std::vector<float>(20, 0.0f));
  });
}

TEST(SoftmaxMix, IsTheSumOfTwoScaledSoftmaxes) {
  ForEachLevel([] {
    for (int64_t cols : kSizes) {
      const int64_t stride = cols + 3;
      Guarded<float> x(Random<float>(2 * stride, uint32_t(cols), 3));
      x.data()[0] = -INFINITY;
      const float between = x.data()[cols];
      std::vector<double> want;
      std::vector<float> lse_t, lse;
      const std::vector<float> share_t = {0.75f, -2}, share = {0, 0.5f};
      for (size_t r = 0; r < 2; ++r) {
        const float* row = x.data() + int64_t(r) * stride;
        double sum_t = 0, sum = 0;
        for (int64_t c = 0; c < cols; ++c) {
          sum_t += std::exp(double(row[c]) / 2.5);
          sum += std::exp(double(row[c]));
        }
        lse_t.push_back(cols == 1 && r == 0 ? 0 : float(std::log(sum_t)));
        lse.push_back(cols == 1 && r == 0 ? 0 : float(std::log(sum)));
        for (int64_t c = 0; c < cols; ++c) {
          want.push_back(double(share_t[r]) * std::exp(double(row[c]) / 2.5 - double(lse_t[r])) +
                         double(share[r]) * std::exp(double(row[c]) - double(lse[r])));
        }
      }
      retort_softmax_mix_f32(x.data(), stride, 2, cols, 2.5, lse_t.data(), share_t.data(),
                             lse.data(), share.data(), 2);
      EXPECT_EQ(x.data()[cols], between) << "written between the rows";
      std::vector<float> got;
      for (int64_t r = 0; r < 2; ++r) {
        got.insert(got.end(), x.data() + r * stride, x.data() + r * stride + cols);
      }
      EXPECT_EQ(got[0], 0);
      ExpectNear<float>(got, want, 2e-6, "mix");
    }
  });
}

}  // namespace
}  // namespace retort::kernels
