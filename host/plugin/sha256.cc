// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/sha256.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>

#include "core/base/status.h"

namespace retort::host {
namespace {

void Check(int done, const char* what) {
  if (done != 1) throw Error(Internal(std::string("libcrypto: ") + what + " failed"));
}

}  // namespace

struct Sha256::Impl {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(),
                                                                  &EVP_MD_CTX_free};
};

Sha256::Sha256() : impl_(std::make_unique<Impl>()) {
  Check(impl_->context != nullptr, "EVP_MD_CTX_new");
  Check(EVP_DigestInit_ex(impl_->context.get(), EVP_sha256(), nullptr), "EVP_DigestInit_ex");
}
Sha256::~Sha256() = default;

void Sha256::Update(std::string_view bytes) {
  Check(EVP_DigestUpdate(impl_->context.get(), bytes.data(), bytes.size()), "EVP_DigestUpdate");
}

std::string Sha256::Hex() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned n = 0;
  Check(EVP_DigestFinal_ex(impl_->context.get(), digest.data(), &n), "EVP_DigestFinal_ex");
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex;
  for (unsigned i = 0; i < n; ++i) {
    hex += kDigits[digest[i] >> 4];
    hex += kDigits[digest[i] & 15];
  }
  return hex;
}

std::string Sha256::Of(std::string_view bytes) {
  Sha256 hash;
  hash.Update(bytes);
  return hash.Hex();
}

bool Sha256::IsHex(std::string_view text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

}  // namespace retort::host
