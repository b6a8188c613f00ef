// Hashes of what we write and read: XXH3-128 for integrity (not against an adversary), xxh64 for
// uids. Hex is xxHash's canonical form: 32 lower-case digits, most significant first.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace retort {

// XXH3-128 of bytes as they come.
class Hasher {
 public:
  Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;
  ~Hasher();
  void Update(std::string_view bytes);
  void Update(const void* data, size_t n);
  // A length and then the bytes: for hashing several strings without ambiguity.
  void UpdateSized(std::string_view bytes);
  std::string Hex() const;  // of all bytes so far

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string HashHex(std::string_view bytes);
uint64_t XxHash64(std::string_view bytes, uint64_t seed = 0);
std::string Hex64(uint64_t value);  // 16 lower-case digits

}  // namespace retort
