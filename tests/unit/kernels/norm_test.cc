// SPDX-License-Identifier: Apache-2.0
#include "retort/kernels/norm.h"

#include "tests/unit/kernels/kernel_testing.h"

namespace retort::kernels {
namespace {

struct Functions32 {
  using S = float;
  static constexpr auto forward = retort_rms_norm_f32;
  static constexpr auto add_forward = retort_add_rms_norm_f32;
  static constexpr auto backward = retort_rms_norm_backward_f32;
  static constexpr double tolerance = 2e-5;
};
struct Functions64 {
  using S = double;
  static constexpr auto forward = retort_rms_norm_f64;
  static constexpr auto add_forward = retort_add_rms_norm_f64;
  static constexpr auto backward = retort_rms_norm_backward_f64;
  static constexpr double tolerance = 1e-12;
};

struct Reference {
  std::vector<double> y, rstd;
};

// Rows of `groups` vectors with gaps between rows (stride).
template <class S>
Reference NaiveNorm(const retort_norm_shape& s, const std::vector<S>& x, int64_t stride,
                    const std::vector<S>& w) {
  Reference ref;
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int64_t g = 0; g < s.groups; ++g) {
      const S* v = x.data() + r * stride + g * s.cols;
      double squares = 0;
      for (int64_t c = 0; c < s.cols; ++c) squares += double(v[c]) * double(v[c]);
      const double rstd = 1 / std::sqrt(squares / double(s.cols) + s.eps);
      ref.rstd.push_back(rstd);
      for (int64_t c = 0; c < s.cols; ++c) {
        ref.y.push_back(double(v[c]) * rstd * (double(w[size_t(c)]) + s.offset));
      }
    }
  }
  return ref;
}

template <class F>
void CheckForward(int64_t cols, int64_t groups, int threads) {
  using S = typename F::S;
  const retort_norm_shape shape = {
      .rows = 5, .groups = groups, .cols = cols, .eps = 1e-5, .offset = 0.25};
  const int64_t stride = groups * cols + 3;
  const auto x = Random<S>(5 * stride, 1), w = Random<S>(cols, 2);
  const Reference ref = NaiveNorm(shape, x, stride, w);
  Guarded<S> y(5 * groups * cols), rstd(5 * groups);
  F::forward(&shape, x.data(), stride, w.data(), y.data(), 0, rstd.data(), threads);
  ExpectNear(y.view(), ref.y, F::tolerance, "y");
  ExpectNear(rstd.view(), ref.rstd, F::tolerance, "rstd");
}

template <class F>
class NormTest : public testing::Test {};
using BothTypes = testing::Types<Functions32, Functions64>;
TYPED_TEST_SUITE(NormTest, BothTypes);

TYPED_TEST(NormTest, ForwardEqualsNaiveAtAwkwardSizes) {
  ForEachLevel([] {
    for (int64_t cols : kSizes) {
      CheckForward<TypeParam>(cols, 1, 1);
      CheckForward<TypeParam>(cols, 3, 2);
    }
    CheckForward<TypeParam>(5000, 1, 2);
  });
}

TYPED_TEST(NormTest, AddForwardIsAddThenForward) {
  using S = typename TypeParam::S;
  ForEachLevel([] {
    for (int64_t cols : kSizes) {
      const retort_norm_shape shape = {
          .rows = 3, .groups = 1, .cols = cols, .eps = 1e-6, .offset = 0};
      const auto a = Random<S>(3 * cols, 1), b = Random<S>(3 * cols, 2), w = Random<S>(cols, 3);
      std::vector<S> total(a.size());
      for (size_t i = 0; i < a.size(); ++i) total[i] = a[i] + b[i];
      const Reference ref = NaiveNorm(shape, total, cols, w);
      Guarded<S> sum(a), y(3 * cols), rstd(3);
      TypeParam::add_forward(&shape, sum.data(), b.data(), w.data(), sum.data(), y.data(),
                             rstd.data(), 2);  // sum over a, as the engine uses it
      ExpectNear(sum.view(), {total.begin(), total.end()}, 0, "sum");
      ExpectNear(y.view(), ref.y, TypeParam::tolerance, "y");
      ExpectNear(rstd.view(), ref.rstd, TypeParam::tolerance, "rstd");
    }
  });
}

// Central differences of sum(dy * y) in f64 are the oracle for f64; f64 is the one for f32.
TEST(NormBackward, EqualsCentralDifferences) {
  const retort_norm_shape shape = {.rows = 2, .groups = 2, .cols = 19, .eps = 1e-5, .offset = 1};
  const int64_t n = 2 * 2 * 19;
  auto x = Random<double>(n, 1), w = Random<double>(19, 2);
  const auto dy = Random<double>(n, 3);
  const auto loss = [&] {
    const Reference ref = NaiveNorm(shape, x, 38, w);
    double sum = 0;
    for (size_t i = 0; i < ref.y.size(); ++i) sum += ref.y[i] * dy[i];
    return sum;
  };
  const auto slope = [&](double& v) {
    const double keep = v, h = 1e-5;
    v = keep + h;
    const double up = loss();
    v = keep - h;
    const double down = loss();
    v = keep;
    return (up - down) / (2 * h);
  };
  std::vector<double> want_dx, want_dw;
  for (double& v : x) want_dx.push_back(slope(v));
  for (double& v : w) want_dw.push_back(slope(v) + 0.5);
  const Reference ref = NaiveNorm(shape, x, 38, w);
  Guarded<double> dx(n), dw(19, 0.5);
  retort_rms_norm_backward_f64(&shape, dy.data(), 0, x.data(), 0, w.data(), ref.rstd.data(),
                               dx.data(), 0, 0, dw.data(), 1);
  ExpectNear(dx.view(), want_dx, 1e-8, "dx");
  ExpectNear(dw.view(), want_dw, 1e-8, "dw");
}

TEST(NormBackward, F32EqualsF64AndAccumulates) {
  ForEachLevel([] {
    for (int64_t cols : kSizes) {
      const int64_t rows = 70, n = rows * cols;  // more rows than one partial sum of dw
      const retort_norm_shape shape = {
          .rows = rows, .groups = 1, .cols = cols, .eps = 1e-5, .offset = 0};
      const auto x = Random<float>(n, 1), w = Random<float>(cols, 2), dy = Random<float>(n, 3);
      Guarded<float> rstd(rows), y(n), dx(n, 2.0f), dw(cols, 1.0f);
      retort_rms_norm_f32(&shape, x.data(), 0, w.data(), y.data(), 0, rstd.data(), 1);
      const std::vector<double> x64(x.begin(), x.end()), w64(w.begin(), w.end()),
          dy64(dy.begin(), dy.end()), rstd64(rstd.view().begin(), rstd.view().end());
      std::vector<double> dx64(size_t(n), 2.0), dw64(size_t(cols), 1.0);
      retort_rms_norm_backward_f64(&shape, dy64.data(), 0, x64.data(), 0, w64.data(), rstd64.data(),
                                   dx64.data(), 0, 1, dw64.data(), 1);
      retort_rms_norm_backward_f32(&shape, dy.data(), 0, x.data(), 0, w.data(), rstd.data(),
                                   dx.data(), 0, 1, dw.data(), 2);
      ExpectNear(dx.view(), dx64, 5e-5, "dx");
      ExpectNear(dw.view(), dw64, 5e-5, "dw");
    }
  });
}

TEST(NormBackward, MayWriteOverItsInputGradient) {
  const retort_norm_shape shape = {.rows = 9, .groups = 1, .cols = 33, .eps = 1e-5, .offset = 0};
  const auto x = Random<float>(9 * 33, 1), w = Random<float>(33, 2), dy = Random<float>(9 * 33, 3);
  std::vector<float> rstd(9), y(9 * 33), dx(9 * 33), dw(33), dw_in_place(33);
  retort_rms_norm_f32(&shape, x.data(), 0, w.data(), y.data(), 0, rstd.data(), 1);
  retort_rms_norm_backward_f32(&shape, dy.data(), 0, x.data(), 0, w.data(), rstd.data(), dx.data(),
                               0, 0, dw.data(), 1);
  std::vector<float> in_place = dy;
  retort_rms_norm_backward_f32(&shape, in_place.data(), 0, x.data(), 0, w.data(), rstd.data(),
                               in_place.data(), 0, 0, dw_in_place.data(), 1);
  EXPECT_EQ(in_place, dx);
  EXPECT_EQ(dw_in_place, dw);
}

}  // namespace
}  // namespace retort::kernels
