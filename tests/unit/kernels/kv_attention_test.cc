// Attention over a blocked cache: values against plain loops over what the cache holds, and that a
// row's bits depend neither on its company nor on how its sequence was cut.
// SPDX-License-Identifier: Apache-2.0
#include "retort/kernels/kv_attention.h"

#include <cstring>

#include "tests/unit/kernels/kernel_testing.h"

namespace retort::kernels {
namespace {

constexpr int64_t kBlock = RETORT_KERNELS_KV_BLOCK;
constexpr int kTypes[] = {RETORT_KERNELS_KV_F32, RETORT_KERNELS_KV_BF16, RETORT_KERNELS_KV_INT8};

struct Case {
  int64_t heads, kv_heads, dim, positions, window;
  double soft_cap;
};
const Case kCases[] = {{9, 3, 64, 137, 0, 0},   {4, 4, 16, 66, 0, 0},    {8, 2, 20, 130, 0, 0},
                       {14, 2, 64, 64, 0, 0},   {4, 1, 128, 155, 64, 0}, {2, 2, 7, 140, 17, 0},
                       {6, 2, 32, 76, 0, 5.0},  {3, 1, 33, 131, 1, 0},   {20, 1, 48, 72, 0, 0},
                       {5, 1, 80, 150, 100, 3}, {1, 1, 512, 70, 0, 0}};

// A cache of `blocks` blocks between guards, full of NaN bytes.
class Cache {
 public:
  Cache(const Case& c, int kv_type, int64_t blocks) {
    const int64_t side = c.kv_heads * retort_kv_head_bytes(kv_type, c.dim);
    bytes_ = 2 * side * blocks;
    memory_.assign(size_t(bytes_ + 128), 0xff);
    const auto address = reinterpret_cast<uintptr_t>(memory_.data());
    begin_ = memory_.data() + (64 - address % 64) % 64;
    view = {.keys = begin_,
            .values = begin_ + side,
            .block_stride = 2 * side,
            .n_kv_heads = c.kv_heads,
            .head_dim = c.dim,
            .kv_type = kv_type,
            .reserved = 0};
  }
  ~Cache() {
    EXPECT_EQ(begin_[bytes_], 0xff) << "written past the end";
    if (begin_ > memory_.data()) {
      EXPECT_EQ(begin_[-1], 0xff) << "written before the start";
    }
  }
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;
  retort_kv_cache view;

 private:
  std::vector<unsigned char> memory_;
  unsigned char* begin_;
  int64_t bytes_;
};

struct Rows {
  std::vector<float> q, k, v;
  explicit Rows(const Case& c, uint32_t seed = 1)
      : q(Random<float>(c.positions * c.heads * c.dim, seed)),
        k(Random<float>(c.positions * c.kv_heads * c.dim, seed + 1)),
        v(Random<float>(c.positions * c.kv_heads * c.dim, seed + 2)) {}
};

retort_kv_attention_shape ShapeOf(const Case& c) {
  return {.n_heads = c.heads,
          .window = c.window,
          .scale = 1 / std::sqrt(double(c.dim)),
          .soft_cap = c.soft_cap};
}

std::vector<int32_t> Table(const Case& c) {  // blocks in an odd order
  std::vector<int32_t> table;
  for (int64_t b = 0; b * kBlock < c.positions; ++b) {
    table.push_back(int32_t((b * 3 + 1) % 4));
  }
  return table;
}

// Sends positions [begin, end) through append and attention; out has all positions' rows.
void Pass(const Case& c, const Cache& cache, const Rows& rows, const int32_t* table, int64_t begin,
          int64_t end, int n_threads, float* out) {
  const retort_kv_sequence seq = {.table = table, .n_past = begin, .n_rows = end - begin};
  const int64_t kv = c.kv_heads * c.dim, wide = c.heads * c.dim;
  retort_kv_append_f32(&cache.view, &seq, 1, rows.k.data() + begin * kv, 0,
                       rows.v.data() + begin * kv, 0, n_threads);
  const retort_kv_attention_shape shape = ShapeOf(c);
  retort_kv_attention_f32(&shape, &cache.view, &seq, 1, rows.q.data() + begin * wide, 0,
                          out + begin * wide, 0, n_threads);
}

// Over the keys and values that the cache holds.
std::vector<double> Naive(const Case& c, const Cache& cache, const Rows& rows,
                          const int32_t* table) {
  const int64_t kv = c.kv_heads * c.dim;
  std::vector<float> k(size_t(c.positions * kv)), v(k.size());
  for (int64_t j = 0; j < c.positions; ++j) {
    retort_kv_read_f32(&cache.view, table, j, &k[size_t(j * kv)], &v[size_t(j * kv)]);
  }
  std::vector<double> out;
  for (int64_t i = 0; i < c.positions; ++i) {
    for (int64_t h = 0; h < c.heads; ++h) {
      const int64_t g = h / (c.heads / c.kv_heads);
      std::vector<double> acc(size_t(c.dim), 0);
      double total = 0;
      for (int64_t j = c.window > 0 ? std::max<int64_t>(0, i - c.window + 1) : 0; j <= i; ++j) {
        double s = 0;
        for (int64_t d = 0; d < c.dim; ++d) {
          s += double(rows.q[size_t((i * c.heads + h) * c.dim + d)]) *
               double(k[size_t(j * kv + g * c.dim + d)]);
        }
        s /= std::sqrt(double(c.dim));
        if (c.soft_cap > 0) s = c.soft_cap * std::tanh(s / c.soft_cap);
        const double p = std::exp(s);
        total += p;
        for (int64_t d = 0; d < c.dim; ++d) {
          acc[size_t(d)] += p * double(v[size_t(j * kv + g * c.dim + d)]);
        }
      }
      for (double a : acc) out.push_back(a / total);
    }
  }
  return out;
}

template <class Body>
void ForEachCase(Body body) {
  ForEachLevel([&] {
    for (int type : kTypes) {
      for (const Case& c : kCases) {
        SCOPED_TRACE(testing::Message() << "type " << type << ", " << c.heads << "/" << c.kv_heads
                                        << " x " << c.dim << ", window " << c.window);
        body(c, type);
      }
    }
  });
}

TEST(KvAttention, EqualsNaive) {
  ForEachCase([](const Case& c, int type) {
    Cache cache(c, type, 4);
    const Rows rows(c);
    const std::vector<int32_t> table = Table(c);
    Guarded<float> out(int64_t(rows.q.size()), NAN);
    Pass(c, cache, rows, table.data(), 0, c.positions, 2, out.data());
    ExpectNear(out.view(), Naive(c, cache, rows, table.data()), 5e-6, "out");
  });
}

TEST(KvAttention, ARowsBitsDoNotDependOnHowItsSequenceWasCutOrTheThreads) {
  ForEachCase([](const Case& c, int type) {
    Cache whole_cache(c, type, 4);
    const Rows rows(c);
    const std::vector<int32_t> table = Table(c);
    std::vector<float> whole(rows.q.size());
    Pass(c, whole_cache, rows, table.data(), 0, c.positions, 1, whole.data());
    for (int64_t step : {1, 39}) {
      Cache cache(c, type, 4);
      std::vector<float> out(rows.q.size());
      for (int64_t i = 0; i < c.positions; i += step) {
        Pass(c, cache, rows, table.data(), i, std::min(c.positions, i + step), step == 1 ? 1 : 2,
             out.data());
      }
      ASSERT_EQ(out, whole) << step;
    }
  });
}

// Three samples of one prompt: two blocks shared, then blocks of their own; decoded in one call
// they give the bits of three sequences with caches of their own.
TEST(KvAttention, SharedPrefixesGiveTheBitsOfSeparateCaches) {
  ForEachCase([](const Case& c, int type) {
    const int64_t prompt = 2 * kBlock, kv = c.kv_heads * c.dim, wide = c.heads * c.dim;
    Case longer = c;
    longer.positions = prompt + 3;
    Cache shared(longer, type, 5);
    std::vector<float> want, q, k, v;
    std::vector<std::vector<int32_t>> tables;
    const Rows first(longer);
    for (int32_t sample = 0; sample < 3; ++sample) {
      Rows rows(longer);
      const Rows other(longer, uint32_t(10 + sample));
      std::copy(other.q.end() - wide, other.q.end(), rows.q.end() - wide);
      std::copy(other.k.end() - kv, other.k.end(), rows.k.end() - kv);
      std::copy(other.v.end() - kv, other.v.end(), rows.v.end() - kv);
      Cache own(longer, type, 3);
      const int32_t alone[] = {0, 1, 2};
      std::vector<float> out(rows.q.size());
      Pass(longer, own, rows, alone, 0, longer.positions, 1, out.data());
      want.insert(want.end(), out.end() - wide, out.end());

      tables.push_back({4, 0, 1 + sample});
      Pass(longer, shared, rows, tables.back().data(), 0, longer.positions - 1, 1, out.data());
      q.insert(q.end(), rows.q.end() - wide, rows.q.end());
      k.insert(k.end(), rows.k.end() - kv, rows.k.end());
      v.insert(v.end(), rows.v.end() - kv, rows.v.end());
    }
    std::vector<retort_kv_sequence> sequences;
    for (const auto& table : tables) {
      sequences.push_back({.table = table.data(), .n_past = longer.positions - 1, .n_rows = 1});
    }
    retort_kv_append_f32(&shared.view, sequences.data(), 3, k.data(), 0, v.data(), 0, 2);
    const retort_kv_attention_shape shape = ShapeOf(c);
    retort_kv_attention_f32(&shape, &shared.view, sequences.data(), 3, q.data(), 0, q.data(), 0, 2);
    ASSERT_EQ(q, want);  // in place
  });
}

// One call with a prompt's chunk, a decoded row, nothing, and another prompt.
TEST(KvAttention, MixedCallsGiveTheBitsOfSeparateOnes) {
  ForEachLevel([] {
    const Case c = {6, 2, 40, 100, 0, 0};
    const int64_t kv = c.kv_heads * c.dim, wide = c.heads * c.dim;
    const int64_t past[] = {10, 99, 5, 0}, n_rows[] = {50, 1, 0, 64};
    Cache cache(c, RETORT_KERNELS_KV_F32, 8);
    const int32_t tables[4][2] = {{0, 1}, {2, 3}, {4, 5}, {6, 7}};
    std::vector<float> want, q, k, v, scratch(size_t(c.positions * wide));
    std::vector<retort_kv_sequence> sequences;
    for (size_t s = 0; s < 4; ++s) {
      const Rows rows(c, uint32_t(20 * s));
      const int64_t end = past[s] + n_rows[s];
      Pass(c, cache, rows, tables[s], 0, end, 1, scratch.data());
      want.insert(want.end(), scratch.begin() + past[s] * wide, scratch.begin() + end * wide);
      q.insert(q.end(), rows.q.begin() + past[s] * wide, rows.q.begin() + end * wide);
      k.insert(k.end(), rows.k.begin() + past[s] * kv, rows.k.begin() + end * kv);
      v.insert(v.end(), rows.v.begin() + past[s] * kv, rows.v.begin() + end * kv);
      sequences.push_back({.table = tables[s], .n_past = past[s], .n_rows = n_rows[s]});
    }
    Guarded<float> out(int64_t(want.size()), NAN);
    retort_kv_append_f32(&cache.view, sequences.data(), 4, k.data(), 0, v.data(), 0, 2);
    const retort_kv_attention_shape shape = ShapeOf(c);
    retort_kv_attention_f32(&shape, &cache.view, sequences.data(), 4, q.data(), 0, out.data(), 0,
                            2);
    EXPECT_TRUE(std::equal(want.begin(), want.end(), out.view().begin()));
  });
}

TEST(KvAttention, BlocksBeforeTheWindowAreNotRead) {
  ForEachLevel([] {
    const Case c = {4, 2, 24, 200, 60, 0};
    Cache cache(c, RETORT_KERNELS_KV_BF16, 4);
    const Rows rows(c);
    std::vector<int32_t> table = {3, 1, 0, 2};
    std::vector<float> out(rows.q.size()), again(rows.q.size());
    Pass(c, cache, rows, table.data(), 0, 199, 1, out.data());
    Pass(c, cache, rows, table.data(), 199, 200, 1, out.data());
    table[0] = table[1] = -1 << 30;  // an address nowhere
    Pass(c, cache, rows, table.data(), 199, 200, 1, again.data());
    EXPECT_TRUE(std::equal(out.end() - 96, out.end(), again.end() - 96));
  });
}

TEST(KvAppend, RoundsAsTheTypesSay) {
  ForEachLevel([] {
    const Case c = {1, 1, 19, 1, 0, 0};
    const std::vector<float> row = Random<float>(19, 3);
    float most = 0;
    for (float x : row) most = std::max(most, std::fabs(x));
    for (int type : kTypes) {
      Cache cache(c, type, 1);
      const int32_t table[] = {0};
      const retort_kv_sequence seq = {.table = table, .n_past = 5, .n_rows = 1};
      retort_kv_append_f32(&cache.view, &seq, 1, row.data(), 0, row.data(), 0, 1);
      std::vector<float> k(19), v(19);
      retort_kv_read_f32(&cache.view, table, 5, k.data(), v.data());
      EXPECT_EQ(k, v);
      for (size_t i = 0; i < 19; ++i) {
        // Half a step: none, at most 2^-8 of the number, half the scale.
        const float limit = type == RETORT_KERNELS_KV_F32    ? 0
                            : type == RETORT_KERNELS_KV_BF16 ? std::fabs(row[i]) / 256
                                                             : most / 254 * 1.00001f;
        EXPECT_LE(std::fabs(k[i] - row[i]), limit) << type << " " << i;
      }
    }
  });
}

TEST(KvAppend, ZeroRowsStayZeroInInt8) {
  const Case c = {1, 1, 16, 1, 0, 0};
  Cache cache(c, RETORT_KERNELS_KV_INT8, 1);
  const std::vector<float> row(16, 0.0f);
  const int32_t table[] = {0};
  const retort_kv_sequence seq = {.table = table, .n_past = 0, .n_rows = 1};
  retort_kv_append_f32(&cache.view, &seq, 1, row.data(), 0, row.data(), 0, 1);
  std::vector<float> k(16, 1), v(16, 1);
  retort_kv_read_f32(&cache.view, table, 0, k.data(), v.data());
  EXPECT_EQ(k, row);
  EXPECT_EQ(v, row);
}

}  // namespace
}  // namespace retort::kernels
