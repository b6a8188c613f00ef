// AdamW on moments of 8 bits, a block of 256 at a time.
// Method: a code is found without a search: the upper 16 bits of a magnitude name a bucket so
// narrow that it holds one bound at most, so the bucket's least code and one comparison decide.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/levels/levels.h"

namespace retort::kernels::RETORT_KERNELS_NS {

static constexpr int64_t kBlock = RETORT_CODE_BLOCK;

static void Decode(const retort_code_book& book, const uint8_t* codes, float largest, float* x,
                   int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = book.values[codes[i]] * largest;
}

static void Encode(const retort_code_book& book, const float* x, float largest, uint8_t* codes,
                   int64_t n) {
  const float scale = largest > 0 ? 1.0f / largest : 0.0f;
  int32_t found[kBlock];
  for (int64_t i = 0; i < n; ++i) {
    const float value = x[i] * scale, size = value < 0 ? -value : value;
    uint32_t bits;
    memcpy(&bits, &size, sizeof bits);
    int32_t bucket = static_cast<int32_t>(bits >> 16) - static_cast<int32_t>(kFirstCodeBucket);
    bucket = bucket < 0 ? 0 : bucket;
    bucket = bucket < RETORT_CODE_BUCKETS ? bucket : RETORT_CODE_BUCKETS - 1;
    int32_t c = book.least[bucket];
    c += size > book.bounds[c] ? 1 : 0;
    const int32_t below = c < book.most_negative ? c : book.most_negative;
    found[i] = value < 0 ? book.zero - below : book.zero + c;
  }
  for (int64_t i = 0; i < n; ++i) codes[i] = static_cast<uint8_t>(found[i]);
}

static float Largest(const float* x, int64_t count) {
  F16 largest = F16::Zero();
  ForLanes(count, [&](int64_t i, auto n) {
    const F16 v = LoadAt<F16>(x + i, n);
    largest = Max(largest, Max(v, F16::Zero() - v));
  });
  return MaxAll(largest);
}

void AdamW8(const retort_code_books& books, const retort_adamw8_tensor& t, int64_t begin,
            int64_t end) {
  float m[kBlock], v[kBlock];
  for (int64_t first = begin; first < end; first += kBlock) {
    const int64_t n = end - first < kBlock ? end - first : kBlock, block = first / kBlock;
    Decode(books.m, t.m + first, t.m_max[block], m, n);
    Decode(books.v, t.v + first, t.v_max[block], v, n);
    Optimizer<F16>::AdamW(*t.params, t.p + first, t.grad + first, m, v, n);
    t.m_max[block] = Largest(m, n);
    t.v_max[block] = Largest(v, n);
    Encode(books.m, m, t.m_max[block], t.m + first, n);
    Encode(books.v, v, t.v_max[block], t.v + first, n);
  }
}

}  // namespace retort::kernels::RETORT_KERNELS_NS
