// Random numbers for plugins: Philox 4x32-10 (Salmon et al., SC 2011), counter-based. A number
// depends only on call->key, what the plugin mixes in (uid, index, row) and its index in the
// stream, so results do not depend on order, batching or threads. Gives the same numbers as the
// host's own generator.
//
//   Rng rng(Mix(call.key(), sample.uid()));
//   double u = rng.Uniform();
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_RNG_H_
#define RETORT_SDK_RNG_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "retort/abi/types.h"

namespace retort::sdk {

using PhiloxWords = std::array<uint32_t, 4>;

constexpr PhiloxWords Philox(PhiloxWords c, uint32_t k0, uint32_t k1) {
  for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9U, k1 += 0xBB67AE85U) {
    const uint64_t a = uint64_t{0xD2511F53U} * c[0];
    const uint64_t b = uint64_t{0xCD9E8D57U} * c[2];
    c = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(b),
         static_cast<uint32_t>(a >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(a)};
  }
  return c;
}

namespace internal {
constexpr uint32_t Low(uint64_t x) { return static_cast<uint32_t>(x); }
constexpr uint32_t High(uint64_t x) { return static_cast<uint32_t>(x >> 32); }
constexpr PhiloxWords Counter(uint64_t lo, uint64_t hi) {
  return {Low(lo), High(lo), Low(hi), High(hi)};
}
constexpr uint64_t Word(uint32_t lo, uint32_t hi) { return lo | uint64_t{hi} << 32; }
}  // namespace internal

// A key of its own for (a, b): a uid and an index, say.
constexpr retort_key Mix(retort_key key, uint64_t a, uint64_t b = 0) {
  using namespace internal;
  const PhiloxWords x = Philox(Counter(a, b), Low(key.hi), High(key.hi));
  const PhiloxWords y = Philox(x, Low(key.lo), High(key.lo));
  return {Word(y[2], y[3]), Word(y[0], y[1])};
}

class Rng {
 public:
  explicit constexpr Rng(retort_key key) : key_(key) {}
  constexpr uint64_t Next() {
    using namespace internal;
    if (next_ % 2 == 0) {
      block_ = Philox(Counter(next_ / 2, key_.hi), Low(key_.lo), High(key_.lo));
    }
    const size_t i = next_++ % 2 * 2;
    return Word(block_[i], block_[i + 1]);
  }
  // In [0, 1).
  constexpr double Uniform() { return static_cast<double>(Next() >> 11) * 0x1.0p-53; }
  // In [0, n), n > 0, without bias.
  constexpr uint64_t Below(uint64_t n) {
    const uint64_t uneven = (~uint64_t{0} % n + 1) % n;
    uint64_t x = Next();
    while (x > ~uint64_t{0} - uneven) x = Next();
    return x % n;
  }

 private:
  retort_key key_;
  uint64_t next_ = 0;
  PhiloxWords block_{};
};

}  // namespace retort::sdk

#endif  // RETORT_SDK_RNG_H_
