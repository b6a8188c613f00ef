// The one random number generator: Philox 4x32-10 (Salmon et al., "Parallel random numbers: as
// easy as 1, 2, 3", SC 2011). Counter-based: a number depends only on a key and an index, so a
// run's only state is integers. Keys are derived, never shared: every use has its own.
//
//   RngKey stage = RootKey(seed, "sft");                  // run's seed, stage's name
//   RngKey sample = Derive(Derive(stage, "sampling"), uid, index);   // purpose, then numbers
//   double u = Rng(sample, position).Uniform();
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>
#include <utility>
#include <vector>

namespace retort {

using PhiloxBlock = std::array<uint32_t, 4>;

// Ten rounds of Philox 4x32 over a 128-bit counter and a 64-bit key (both low word first).
constexpr PhiloxBlock Philox4x32(PhiloxBlock counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(p0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

// Names a stream of random numbers; passed to plugins as retort_key.
struct RngKey {
  uint64_t hi = 0, lo = 0;
  friend constexpr bool operator==(const RngKey&, const RngKey&) = default;
};

namespace rng_internal {

constexpr PhiloxBlock Words(uint64_t lo, uint64_t hi) {
  return {static_cast<uint32_t>(lo), static_cast<uint32_t>(lo >> 32), static_cast<uint32_t>(hi),
          static_cast<uint32_t>(hi >> 32)};
}
constexpr uint64_t Join(uint32_t lo, uint32_t hi) { return lo | uint64_t{hi} << 32; }

// FNV-1a, 64 bits: names are few and chosen by us.
constexpr uint64_t NameHash(std::string_view name) {
  uint64_t h = 0xcbf29ce484222325;
  for (char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return h;
}

}  // namespace rng_internal

// A child key: the parent's 128 bits key two Philox passes over (a, b).
constexpr RngKey Derive(RngKey parent, uint64_t a, uint64_t b = 0) {
  using rng_internal::Join;
  using rng_internal::Words;
  const PhiloxBlock hi = Words(parent.hi, 0), lo = Words(parent.lo, 0);
  const PhiloxBlock x = Philox4x32(Words(a, b), {hi[0], hi[1]});
  const PhiloxBlock y = Philox4x32(x, {lo[0], lo[1]});
  return {Join(y[2], y[3]), Join(y[0], y[1])};
}
constexpr RngKey Derive(RngKey parent, std::string_view name) {
  return Derive(parent, rng_internal::NameHash(name), name.size());
}
constexpr RngKey RootKey(uint64_t seed, std::string_view stage) {
  return Derive(RngKey{0, seed}, stage);
}

// Reads a stream from 64-bit word `offset` on. Cheap to make; not thread-safe.
class Rng {
 public:
  explicit constexpr Rng(RngKey key, uint64_t offset = 0) : key_(key), next_(offset) {}

  constexpr uint64_t Next64() {
    if (next_ / 2 != block_index_ || !filled_) Fill();
    const size_t half = next_++ % 2 * 2;
    return rng_internal::Join(block_[half], block_[half + 1]);
  }
  constexpr uint32_t Next32() { return static_cast<uint32_t>(Next64() >> 32); }
  // In [0, 1), all 53 bits random.
  constexpr double Uniform() { return static_cast<double>(Next64() >> 11) * 0x1.0p-53; }
  // In [0, n), n > 0, without bias (rejects the uneven rest of the range).
  constexpr uint64_t Below(uint64_t n) {
    const uint64_t rest = (~uint64_t{0} % n + 1) % n;
    uint64_t x = Next64();
    while (x > ~uint64_t{0} - rest) x = Next64();
    return x % n;
  }
  // Two values of mean 0 and deviation 1 from two words of the stream (Box-Muller).
  std::array<double, 2> NormalPair() {
    const double radius = std::sqrt(-2.0 * std::log1p(-Uniform()));
    const double angle = 2.0 * std::numbers::pi * Uniform();
    return {radius * std::cos(angle), radius * std::sin(angle)};
  }
  // One such value; also takes two words.
  double Normal() { return NormalPair()[0]; }
  constexpr uint64_t offset() const { return next_; }

 private:
  constexpr void Fill() {
    using rng_internal::Words;
    block_index_ = next_ / 2;
    const PhiloxBlock key = Words(key_.lo, key_.hi);
    block_ = Philox4x32(Words(block_index_, key_.hi), {key[0], key[1]});
    filled_ = true;
  }
  RngKey key_;
  uint64_t next_ = 0, block_index_ = 0;
  bool filled_ = false;
  PhiloxBlock block_{};
};

// Every order is equally likely (Fisher and Yates).
template <class T>
void Shuffle(RngKey key, std::vector<T>* items) {
  Rng rng(key);
  for (size_t i = items->size(); i > 1; --i) {
    std::swap((*items)[i - 1], (*items)[static_cast<size_t>(rng.Below(i))]);
  }
}

}  // namespace retort
