// UTF-8 and the character classes that tokenizers split by. Classes are Unicode general
// categories as utf8proc knows them; ASCII never leaves a table.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace retort::text {

// Bits of a character's class.
enum CharClass : uint8_t {
  kLetter = 1,        // L*
  kNumber = 2,        // N*
  kSpace = 4,         // White_Space
  kMark = 8,          // M*
  kPunctuation = 16,  // P*
  kSymbol = 32,       // S*
  kNewline = 64,      // CR, LF
};

uint8_t ClassOfWide(uint32_t code_point);  // any code point

namespace unicode_internal {
constexpr uint8_t AsciiClass(uint32_t c) {
  if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return kLetter;
  if (c >= '0' && c <= '9') return kNumber;
  if (c == '\r' || c == '\n') return kSpace | kNewline;
  if (c == ' ' || (c >= 9 && c <= 13)) return kSpace;
  if (std::string_view("$+<=>^`|~").find(static_cast<char>(c)) != std::string_view::npos) {
    return kSymbol;
  }
  return c > 32 && c < 127 ? kPunctuation : 0;
}
struct AsciiTable {
  uint8_t of[128];
  constexpr AsciiTable() : of() {
    for (uint32_t c = 0; c < 128; ++c) of[c] = AsciiClass(c);
  }
};
inline constexpr AsciiTable kAscii;
}  // namespace unicode_internal

inline uint8_t ClassOf(uint32_t code_point) {
  return code_point < 128 ? unicode_internal::kAscii.of[code_point] : ClassOfWide(code_point);
}

// Length of the character that starts with this byte of valid UTF-8.
inline size_t CharBytes(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// The character at `at` of valid UTF-8; `at` < text.size().
struct Char {
  uint32_t code_point;
  uint32_t bytes;
};
inline Char CharAt(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (byte(1) & 0x3Fu), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | (byte(1) & 0x3Fu) << 6 | (byte(2) & 0x3Fu), 3};
  return {
      (lead & 0x07) << 18 | (byte(1) & 0x3Fu) << 12 | (byte(2) & 0x3Fu) << 6 | (byte(3) & 0x3Fu),
      4};
}
// Start of the character that ends before `at` > 0.
inline size_t PreviousChar(std::string_view text, size_t at) {
  do {
    --at;
  } while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

void AppendUtf8(uint32_t code_point, std::string* out);

// What stands at the start of some bytes: a whole character, a broken sequence (bytes: its
// maximal subpart, one U+FFFD in Unicode's recommended practice), or the start of a character
// whose rest has not come yet.
struct Utf8Step {
  enum Kind : uint8_t { kWhole, kBroken, kIncomplete } kind;
  uint8_t bytes;
};
Utf8Step NextUtf8(std::string_view bytes);  // not empty

bool IsValidUtf8(std::string_view bytes);
std::string LossyUtf8(std::string_view bytes);  // broken sequences become U+FFFD
inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// True for what regexes call a word character: letters, marks, numbers, connectors.
bool IsWordChar(uint32_t code_point);

}  // namespace retort::text
