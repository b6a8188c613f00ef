// SHA-256 of what an adversary may have touched (core/base/hash.h is for everything else).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace retort::host {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  void Update(std::string_view bytes);
  std::string Hex();  // 64 lower-case digits; once

  static std::string Of(std::string_view bytes);
  static bool IsHex(std::string_view text);  // 64 lower-case digits

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace retort::host
