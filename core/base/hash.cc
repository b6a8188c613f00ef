// SPDX-License-Identifier: Apache-2.0
#include "core/base/hash.h"

#include <xxhash.h>

#include <new>

namespace retort {

struct Hasher::State {
  State() : xxh(XXH3_createState()) {
    if (xxh == nullptr) throw std::bad_alloc();
    XXH3_128bits_reset(xxh);
  }
  ~State() { XXH3_freeState(xxh); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  XXH3_state_t* xxh;
};

namespace {

std::string Hex128(XXH128_hash_t hash) { return Hex64(hash.high64) + Hex64(hash.low64); }

}  // namespace

Hasher::Hasher() : state_(std::make_unique<State>()) {}
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;
Hasher::~Hasher() = default;

void Hasher::Update(std::string_view bytes) { Update(bytes.data(), bytes.size()); }
void Hasher::Update(const void* data, size_t n) {
  if (n > 0) XXH3_128bits_update(state_->xxh, data, n);
}
void Hasher::UpdateSized(std::string_view bytes) {
  const uint64_t size = bytes.size();
  Update(&size, sizeof size);
  Update(bytes);
}
std::string Hasher::Hex() const { return Hex128(XXH3_128bits_digest(state_->xxh)); }

std::string HashHex(std::string_view bytes) {
  return Hex128(XXH3_128bits(bytes.data(), bytes.size()));
}

uint64_t XxHash64(std::string_view bytes, uint64_t seed) {
  return XXH64(bytes.data(), bytes.size(), seed);
}

std::string Hex64(uint64_t value) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out(16, '0');
  for (size_t i = 16; i-- > 0; value >>= 4) out[i] = kDigits[value & 15];
  return out;
}

}  // namespace retort
