// Method: Philox blocks are made kLanes at a time, word by word, so that the compiler can use
// vector registers; element i takes word i % 4 of block i / 4, as Rng would give it.
// SPDX-License-Identifier: Apache-2.0
#include "core/ops/dropout.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "core/ops/dispatch.h"
#include "retort/kernels/parallel.h"

namespace retort::ops {
namespace {

constexpr int64_t kLanes = 16, kWords = 4 * kLanes;
constexpr int64_t kChunk = 64 * kWords;  // elements of one piece of work

using Lanes = std::array<uint32_t, kLanes>;

// Words of kLanes blocks from `block` on: out[w][l] is word w of block + l.
void PhiloxLanes(RngKey key, uint64_t block, std::array<Lanes, 4>& c) {
  uint32_t k0 = static_cast<uint32_t>(key.lo), k1 = static_cast<uint32_t>(key.lo >> 32);
  for (size_t l = 0; l < kLanes; ++l) {
    const uint64_t index = block + l;
    c[0][l] = static_cast<uint32_t>(index);
    c[1][l] = static_cast<uint32_t>(index >> 32);
    c[2][l] = static_cast<uint32_t>(key.hi);
    c[3][l] = static_cast<uint32_t>(key.hi >> 32);
  }
  for (int round = 0; round < 10; ++round) {
    for (size_t l = 0; l < kLanes; ++l) {
      const uint64_t p0 = uint64_t{0xD2511F53} * c[0][l], p1 = uint64_t{0xCD9E8D57} * c[2][l];
      c[0][l] = static_cast<uint32_t>(p1 >> 32) ^ c[1][l] ^ k0;
      c[1][l] = static_cast<uint32_t>(p1);
      c[2][l] = static_cast<uint32_t>(p0 >> 32) ^ c[3][l] ^ k1;
      c[3][l] = static_cast<uint32_t>(p0);
    }
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
}

template <class T>
struct Work {
  RngKey key;
  uint32_t threshold = 0;
  T scale = 1;
  const T* x = nullptr;
  T* y = nullptr;
  int64_t n = 0;
};

template <class T>
void Chunk(void* context, int64_t index) {
  const Work<T>& work = *static_cast<const Work<T>*>(context);
  const int64_t end = std::min(work.n, (index + 1) * kChunk);
  std::array<Lanes, 4> words;
  for (int64_t i = index * kChunk; i < end; i += kWords) {
    PhiloxLanes(work.key, static_cast<uint64_t>(i / 4), words);
    const int64_t m = std::min(kWords, end - i);
    for (int64_t j = 0; j < m; ++j) {
      const uint32_t word = words[static_cast<size_t>(j % 4)][static_cast<size_t>(j / 4)];
      work.y[i + j] = word >= work.threshold ? work.x[i + j] * work.scale : T{0};
    }
  }
}

// Rows with gaps between them, one element after the other.
template <class T>
void DropRows(RngKey key, const Work<T>& work, const TensorView& x, const TensorView& y) {
  std::array<Lanes, 4> words;
  int64_t first = -1, element = 0;
  for (int64_t t = 0; t < x.shape[0]; ++t) {
    for (int64_t i = 0; i < x.shape[1]; ++i, ++element) {
      const int64_t begin = element / kWords * kWords;
      if (begin != first) PhiloxLanes(key, static_cast<uint64_t>((first = begin) / 4), words);
      const int64_t j = element - begin;
      const bool kept =
          words[static_cast<size_t>(j % 4)][static_cast<size_t>(j / 4)] >= work.threshold;
      y.as<T>()[t * y.strides[0] + i] = kept ? x.as<T>()[t * x.strides[0] + i] * work.scale : T{0};
    }
  }
}

}  // namespace

void Dropout(RngKey key, double p, const TensorView& x, const TensorView& y, int n_threads) {
  ByType(x, [&](auto zero) {
    using T = decltype(zero);
    Work<T> work{.key = key,
                 .threshold = static_cast<uint32_t>(std::ldexp(p, 32)),
                 .scale = static_cast<T>(1 / (1 - p)),
                 .x = x.as<T>(),
                 .y = y.as<T>(),
                 .n = x.numel()};
    if (!x.contiguous() || !y.contiguous()) return DropRows(key, work, x, y);
    retort_parallel_for((work.n + kChunk - 1) / kChunk, n_threads, Chunk<T>, &work);
  });
}

}  // namespace retort::ops
