// SPDX-License-Identifier: Apache-2.0
#include "host/check/texts.h"

#include <cstdint>

#include "core/json/json.h"

namespace retort::host::check {
namespace {

// Bytes of the sequence that starts at text[i], or 0: it is no UTF-8 (overlong forms, surrogates
// and values above U+10FFFF included).
size_t SequenceLength(std::string_view text, size_t i) {
  const auto byte = [&](size_t k) {
    return k < text.size() ? static_cast<unsigned char>(text[k]) : 0U;
  };
  const unsigned first = byte(i);
  if (first < 0x80) return 1;
  const size_t n = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC2 ? 2 : 0;
  if (n == 0 || first > 0xF4) return 0;
  uint32_t value = first & (0x7FU >> n);
  for (size_t k = 1; k < n; ++k) {
    if ((byte(i + k) & 0xC0U) != 0x80U) return 0;
    value = value << 6 | (byte(i + k) & 0x3FU);
  }
  const bool overlong = (n == 3 && value < 0x800) || (n == 4 && value < 0x10000);
  const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
  return overlong || surrogate || value > 0x10FFFF ? 0 : n;
}

}  // namespace

bool IsUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const size_t n = SequenceLength(text, i);
    if (n == 0) return false;
    i += n;
  }
  return true;
}

std::string Quoted(std::string_view text, size_t most) {
  json::Writer out;
  out.String(text.substr(0, most));
  return text.size() > most ? out.text() + "..." : out.text();
}

std::string NotAnObject(std::string_view json) {
  const Result<json::Document> parsed =
      json::Document::Parse(json, "it", {.max_bytes = uint64_t{64} << 20});
  if (!parsed.ok()) return parsed.status().message();
  return parsed->root().is_object() ? "" : "is no JSON object";
}

}  // namespace retort::host::check
