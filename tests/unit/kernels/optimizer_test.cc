// Codes of 8 bits against a search through the whole book, and Adafactor's passes against plain
// loops in f64.
// SPDX-License-Identifier: Apache-2.0
#include "retort/kernels/optimizer.h"

#include <cmath>
#include <memory>

#include "tests/unit/kernels/kernel_testing.h"

namespace retort::kernels {
namespace {

std::unique_ptr<retort_code_books> Books() {
  auto books = std::make_unique<retort_code_books>();
  retort_make_code_book(1, &books->m);
  retort_make_code_book(0, &books->v);
  return books;
}

TEST(CodeBook, IsSortedAndHasTheMapsLandmarks) {
  const auto books = Books();
  for (const retort_code_book* book : {&books->m, &books->v}) {
    for (int c = 1; c < 256; ++c) EXPECT_LT(book->values[c - 1], book->values[c]);
    EXPECT_EQ(book->values[book->zero], 0);
    EXPECT_EQ(book->values[255], 1);
  }
  EXPECT_EQ(books->m.zero, 127);
  EXPECT_EQ(books->v.zero, 0);
  // bitsandbytes.functional.create_dynamic_map(signed=True)[[0, 126, 128]], (signed=False)[[1,
  // 254]]
  EXPECT_FLOAT_EQ(books->m.values[0], -0.99296874F);
  EXPECT_FLOAT_EQ(books->m.values[126], -5.5e-7F);
  EXPECT_FLOAT_EQ(books->m.values[128], 5.5e-7F);
  EXPECT_FLOAT_EQ(books->v.values[1], 3.25e-7F);
  EXPECT_FLOAT_EQ(books->v.values[254], 0.9964844F);
}

// Numbers of all magnitudes; blocks whose largest is not 1.
std::vector<float> AllMagnitudes(int64_t n, bool negative_too) {
  std::vector<float> x = Random<float>(n, 5), exponent = Random<float>(n, 6);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = std::ldexp(x[i], static_cast<int>(exponent[i] * 7 - 12));
    if (!negative_too) x[i] = std::abs(x[i]);
  }
  return x;
}

// How far the nearest value of the book is from x, the largest of the block being `largest`.
double NearestGap(const retort_code_book& book, double x, double largest) {
  double best = INFINITY;
  for (const float value : book.values) best = std::min(best, std::abs(value * largest - x));
  return best;
}

// With betas of 0 the new moments are the gradient and its square.
TEST(AdamW8, MomentsBecomeTheNearestCodes) {
  const auto books = Books();
  constexpr int64_t kN = 5 * 256 + 77;
  const std::vector<float> grad = AllMagnitudes(kN, true);
  const retort_adamw_params params = {.learning_rate = 0,
                                      .beta1 = 0,
                                      .beta2 = 0,
                                      .eps = 1e-8,
                                      .weight_decay = 0,
                                      .bias_correction1 = 1,
                                      .bias_correction2 = 1,
                                      .grad_scale = 1};
  ForEachLevel([&] {
    std::vector<float> p(kN, 1), m_max(6), v_max(6);
    std::vector<uint8_t> m(kN, 127), v(kN, 0);
    const retort_adamw8_tensor tensor = {.p = p.data(),
                                         .grad = grad.data(),
                                         .m = m.data(),
                                         .v = v.data(),
                                         .m_max = m_max.data(),
                                         .v_max = v_max.data(),
                                         .n = kN,
                                         .params = &params};
    retort_adamw8_list(books.get(), &tensor, 1, 2);
    for (size_t i = 0; i < size_t(kN); ++i) {
      const double g = grad[i], g2 = grad[i] * grad[i];
      const double top = m_max[i / 256], top2 = v_max[i / 256];
      ASSERT_LE(std::abs(g), top);
      // Next to a middle rounding may decide: a unit in the last place of the block's largest.
      EXPECT_LE(std::abs(books->m.values[m[i]] * top - g),
                NearestGap(books->m, g, top) + top * 1e-7);
      EXPECT_LE(std::abs(books->v.values[v[i]] * top2 - g2),
                NearestGap(books->v, g2, top2) + top2 * 1e-7);
    }
  });
}

TEST(AdamW8, ABlockOfZerosStaysZero) {
  const auto books = Books();
  const retort_adamw_params params = {.learning_rate = 0.1,
                                      .beta1 = 0.9,
                                      .beta2 = 0.99,
                                      .eps = 1e-8,
                                      .weight_decay = 0,
                                      .bias_correction1 = 0.1,
                                      .bias_correction2 = 0.01,
                                      .grad_scale = 1};
  std::vector<float> p(300, 0.5F), grad(300), m_max(2), v_max(2);
  std::vector<uint8_t> m(300, 127), v(300, 0);
  const retort_adamw8_tensor tensor = {p.data(),     grad.data(),  m.data(), v.data(),
                                       m_max.data(), v_max.data(), 300,      &params};
  retort_adamw8_list(books.get(), &tensor, 1, 1);
  EXPECT_EQ(p, std::vector<float>(300, 0.5F));
  EXPECT_EQ(m, std::vector<uint8_t>(300, 127));
  EXPECT_EQ(v, std::vector<uint8_t>(300, 0));
}

TEST(Factored, EqualsPlainLoopsForAnyNumberOfThreads) {
  ForEachLevel([] {
    for (const auto& [rows, cols] :
         {std::pair<int64_t, int64_t>{1, 1}, {3, 40}, {700, 33}, {65, 576}}) {
      const auto g = Random<float>(rows * cols, 1);
      const auto r = Random<float>(rows, 2), c = Random<float>(cols, 3);
      const retort_factored_matrix matrix = {rows, cols, g.data()};
      std::vector<double> want_row(size_t(rows), 0.0), want_col(size_t(cols), 0.0);
      double want_squares = 0;
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < cols; ++j) {
          const double x = g[size_t(i * cols + j)];
          want_row[size_t(i)] += x * x / double(cols);
          want_col[size_t(j)] += x * x / double(rows);
          const double u = x * r[size_t(i)] * c[size_t(j)];
          want_squares += u * u;
        }
      }
      std::vector<float> first;
      for (int threads : {1, 2, 3}) {
        std::vector<float> by_row(r.size()), by_col(c.size()), p(g.size(), 1);
        retort_mean_squares_f32(&matrix, by_row.data(), by_col.data(), threads);
        for (size_t i = 0; i < by_row.size(); ++i) EXPECT_NEAR(by_row[i], want_row[i], 1e-5);
        for (size_t j = 0; j < by_col.size(); ++j) EXPECT_NEAR(by_col[j], want_col[j], 1e-5);
        const double squares = retort_factored_squares_f32(&matrix, r.data(), c.data(), threads);
        EXPECT_NEAR(squares, want_squares, 1e-5 * want_squares);
        retort_factored_update_f32(&matrix, r.data(), c.data(), 0.5, 0.25, p.data(), threads);
        for (int64_t i = 0; i < rows; ++i) {
          for (int64_t j = 0; j < cols; ++j) {
            const auto at = size_t(i * cols + j);
            ASSERT_NEAR(p[at], 0.5 - 0.25 * g[at] * r[size_t(i)] * c[size_t(j)], 1e-6);
          }
        }
        p.push_back(static_cast<float>(squares));
        p.insert(p.end(), by_row.begin(), by_row.end());
        p.insert(p.end(), by_col.begin(), by_col.end());
        if (first.empty()) first = p;
        EXPECT_EQ(p, first) << threads << " threads";
      }
    }
  });
}

}  // namespace
}  // namespace retort::kernels
