// Each function below is one pattern: its alternatives in order, backtracking worked out by hand.
// SPDX-License-Identifier: Apache-2.0
#include "core/text/scan.h"

#include <array>
#include <utility>

#include "core/text/unicode.h"

namespace retort::text {
namespace {

constexpr std::string_view kGpt2Text =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Text =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3Text =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kDigits3Text = R"(\p{N}{1,3})";
// U+4E00-U+9FA5, U+3040-U+309F, U+30A0-U+30FF, as the file spells them.
constexpr std::string_view kDeepseekCjkText =
    "[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+";
constexpr std::string_view kDeepseekTextText =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?"
    "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";

constexpr std::array<std::pair<KnownPattern, std::string_view>, 6> kKnown = {{
    {KnownPattern::kGpt2, kGpt2Text},
    {KnownPattern::kQwen2, kQwen2Text},
    {KnownPattern::kLlama3, kLlama3Text},
    {KnownPattern::kDigits3, kDigits3Text},
    {KnownPattern::kDeepseekCjk, kDeepseekCjkText},
    {KnownPattern::kDeepseekText, kDeepseekTextText},
}};

uint8_t ClassAt(std::string_view text, size_t at) {
  return at < text.size() ? ClassOf(CharAt(text, at).code_point) : uint8_t{0};
}

// End of the run of characters whose class has one of `bits`.
size_t RunOf(std::string_view text, size_t at, uint8_t bits) {
  while (at < text.size()) {
    const Char c = CharAt(text, at);
    if ((ClassOf(c.code_point) & bits) == 0) break;
    at += c.bytes;
  }
  return at;
}
// The same of characters whose class has none of `bits`.
size_t RunOfNot(std::string_view text, size_t at, uint8_t bits) {
  while (at < text.size()) {
    const Char c = CharAt(text, at);
    if ((ClassOf(c.code_point) & bits) != 0) break;
    at += c.bytes;
  }
  return at;
}
size_t Newlines(std::string_view text, size_t at) {
  while (at < text.size() && (text[at] == '\r' || text[at] == '\n')) ++at;
  return at;
}

// 's 't 're 've 'm 'll 'd after an apostrophe at `at`; `fold`: in any case, also U+017F for s.
size_t Contraction(std::string_view text, size_t at, bool fold) {
  const auto letter = [&](size_t i) {
    if (i >= text.size()) return '\0';
    const char c = text[i];
    return fold && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  const char a = letter(at + 1), b = letter(at + 2);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return at + 2;
  if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return at + 3;
  if (fold && text.substr(at + 1, 2) == "\xC5\xBF") return at + 3;
  return at;
}

// \s+(?!\S)|\s+ : a run, without its last character if more text follows.
size_t Spaces(std::string_view text, size_t at) {
  const size_t end = RunOf(text, at, kSpace);
  if (end == text.size() || end == at) return end;
  const size_t last = PreviousChar(text, end);
  return last > at ? last : end;
}

// \s*[\r\n]+|\s+(?!\S)|\s+ : up to the run's last line end, if it has one.
size_t SpacesOrLines(std::string_view text, size_t at) {
  size_t last_newline = 0, end = at;
  while (end < text.size()) {
    const Char c = CharAt(text, end);
    const uint8_t bits = ClassOf(c.code_point);
    if ((bits & kSpace) == 0) break;
    end += c.bytes;
    if ((bits & kNewline) != 0) last_newline = end;
  }
  if (last_newline != 0) return last_newline;
  if (end == text.size() || end == at) return end;
  const size_t last = PreviousChar(text, end);
  return last > at ? last : end;
}

size_t Digits(std::string_view text, size_t at, int max) {
  for (int n = 0; n < max && (ClassAt(text, at) & kNumber) != 0; ++n) at += CharBytes(text[at]);
  return at;
}

size_t MatchGpt2(std::string_view text, size_t at) {
  constexpr uint8_t kWordOrSpace = kLetter | kNumber | kSpace;
  if (text[at] == '\'') {
    const size_t end = Contraction(text, at, false);
    if (end != at) return end;
  }
  const size_t body = text[at] == ' ' ? at + 1 : at;
  if (body < text.size()) {
    const uint8_t bits = ClassAt(text, body);
    if ((bits & kLetter) != 0) return RunOf(text, body, kLetter);
    if ((bits & kNumber) != 0) return RunOf(text, body, kNumber);
    if ((bits & kSpace) == 0) return RunOfNot(text, body, kWordOrSpace);
  }
  return Spaces(text, at);
}

// qwen2 and llama3, which differ in how many digits stay together.
size_t MatchQwen(std::string_view text, size_t at, int digits) {
  constexpr uint8_t kWordOrSpace = kLetter | kNumber | kSpace;
  if (text[at] == '\'') {
    const size_t end = Contraction(text, at, true);
    if (end != at) return end;
  }
  const Char first = CharAt(text, at);
  const uint8_t bits = ClassOf(first.code_point);
  if ((bits & kLetter) != 0) return RunOf(text, at, kLetter);
  const size_t next = at + first.bytes;
  if ((bits & (kNumber | kNewline)) == 0 && (ClassAt(text, next) & kLetter) != 0) {
    return RunOf(text, next, kLetter);
  }
  if ((bits & kNumber) != 0) return Digits(text, at, digits);
  if ((bits & kSpace) == 0) return Newlines(text, RunOfNot(text, at, kWordOrSpace));
  if (text[at] == ' ' && next < text.size() && (ClassAt(text, next) & kWordOrSpace) == 0) {
    return Newlines(text, RunOfNot(text, next, kWordOrSpace));
  }
  return SpacesOrLines(text, at);
}

size_t MatchCjk(std::string_view text, size_t at) {
  while (at < text.size()) {
    const Char c = CharAt(text, at);
    const bool han = c.code_point >= 0x4E00 && c.code_point <= 0x9FA5;
    if (!han && (c.code_point < 0x3040 || c.code_point > 0x30FF)) break;
    at += c.bytes;
  }
  return at;
}

size_t MatchDeepseekText(std::string_view text, size_t at) {
  constexpr uint8_t kPunctOrSymbol = kPunctuation | kSymbol;
  const auto ascii_letter = [&](size_t i) {
    return i < text.size() && static_cast<unsigned char>(text[i]) < 128 &&
           (ClassOf(static_cast<unsigned char>(text[i])) & kLetter) != 0;
  };
  const Char first = CharAt(text, at);
  const uint8_t bits = ClassOf(first.code_point);
  const size_t next = at + first.bytes;
  if (first.bytes == 1 && (bits & kPunctOrSymbol) != 0 && ascii_letter(next)) {
    size_t end = next;
    while (ascii_letter(end)) ++end;
    return end;
  }
  if ((bits & (kLetter | kMark)) != 0) return RunOf(text, at, kLetter | kMark);
  if ((bits & (kPunctOrSymbol | kNewline)) == 0 && (ClassAt(text, next) & (kLetter | kMark)) != 0) {
    return RunOf(text, next, kLetter | kMark);
  }
  const size_t body = text[at] == ' ' ? next : at;
  if ((ClassAt(text, body) & kPunctOrSymbol) != 0) {
    return Newlines(text, RunOf(text, body, kPunctOrSymbol));
  }
  return SpacesOrLines(text, at);
}

}  // namespace

std::optional<KnownPattern> FindKnownPattern(std::string_view pattern) {
  for (const auto& [known, text] : kKnown) {
    if (text == pattern) return known;
  }
  return std::nullopt;
}

std::string_view PatternText(KnownPattern pattern) {
  for (const auto& [known, text] : kKnown) {
    if (known == pattern) return text;
  }
  return {};
}

size_t MatchAt(KnownPattern pattern, std::string_view text, size_t at) {
  switch (pattern) {
    case KnownPattern::kGpt2: return MatchGpt2(text, at);
    case KnownPattern::kQwen2: return MatchQwen(text, at, 1);
    case KnownPattern::kLlama3: return MatchQwen(text, at, 3);
    case KnownPattern::kDigits3: return Digits(text, at, 3);
    case KnownPattern::kDeepseekCjk: return MatchCjk(text, at);
    case KnownPattern::kDeepseekText: return MatchDeepseekText(text, at);
  }
  return at;
}

}  // namespace retort::text
