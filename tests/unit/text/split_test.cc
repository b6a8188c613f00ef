// Split patterns: the hand-written scanners against PCRE2 on random text, the translation from
// Oniguruma, and the limits of hostile patterns.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/base/rng.h"
#include "core/text/regex.h"
#include "core/text/scan.h"
#include "core/text/unicode.h"

namespace retort::text {
namespace {

// Characters at the borders of the patterns' classes.
const std::vector<std::string> kPieces = {
    "a",      "s",       "T",      "re",     "ve",     "m",      "ll",
    "D",      "'",       "0",      "9",      "12",     " ",      "  ",
    "\n",     "\r\n",    "\t",     "\r",     ".",      ",",      "!",
    "_",      "(",       "$",      "+",      "|",      "`",      "~",
    "é",      "e\u0301", "\u0301", "ß",      "Ж",      "ǅ",      "ʰ",
    "한",     "中",      "龥",     "龦",     "あ",     "ー",     "\u3040",
    "\u3100", "م",       "न",      "्",       "😀",      "½",      "²",
    "Ⅷ",      "٣",       "\u00A0", "\u2003", "\u3000", "\u2028", "\u0085",
    "\u180E", "\u200B",  "€",      "∑",      "“",      "—",      std::string(1, '\x01'),
    "\u017F", "\uE000"};

std::string RandomText(uint64_t seed) {
  Rng rng(RootKey(seed, "split_test"));
  std::string text;
  const uint64_t n = 1 + rng.Below(30);
  for (uint64_t i = 0; i < n; ++i) text += kPieces[rng.Below(kPieces.size())];
  return text;
}

class Scanner : public testing::TestWithParam<KnownPattern> {};

TEST_P(Scanner, FindsTheMatchesOfPcre2) {
  const KnownPattern known = GetParam();
  EXPECT_EQ(FindKnownPattern(PatternText(known)), known);
  const auto regex = Regex::Compile(PatternText(known), true);
  ASSERT_TRUE(regex.ok()) << regex.status().ToString();
  for (uint64_t seed = 0; seed < 4000; ++seed) {
    const std::string text = RandomText(seed);
    std::vector<Range> expected;
    ASSERT_TRUE(regex->FindAll(text, Deadline(text.size()), &expected).ok());
    std::vector<Range> found;
    for (size_t at = 0; at < text.size();) {
      const size_t end = MatchAt(known, text, at);
      if (end > at) found.push_back({at, end});
      at = end > at ? end : at + CharBytes(text[at]);
    }
    ASSERT_EQ(found.size(), expected.size()) << seed << ": " << text;
    for (size_t i = 0; i < found.size(); ++i) {
      ASSERT_EQ(found[i].begin, expected[i].begin) << seed << ": " << text;
      ASSERT_EQ(found[i].end, expected[i].end) << seed << ": " << text;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Scanner,
                         testing::Values(KnownPattern::kGpt2, KnownPattern::kQwen2,
                                         KnownPattern::kLlama3, KnownPattern::kDigits3,
                                         KnownPattern::kDeepseekCjk, KnownPattern::kDeepseekText));

std::vector<std::string> Matches(std::string_view pattern, std::string_view text) {
  std::vector<std::string> out;
  std::vector<Range> ranges;
  const auto regex = Regex::Compile(pattern);
  EXPECT_TRUE(regex.ok()) << regex.status().ToString();
  if (!regex.ok() || !regex->FindAll(text, Deadline(text.size()), &ranges).ok())
    return {"(failed)"};
  for (const Range r : ranges) out.emplace_back(text.substr(r.begin, r.end - r.begin));
  return out;
}
using Strings = std::vector<std::string>;

TEST(Regex, ShorthandsMeanWhatOnigurumaMeans) {
  EXPECT_EQ(Matches("\\h+", "xf0 Z9"), (Strings{"f0", "9"}));      // hex digits
  EXPECT_EQ(Matches("\\s", "\u180E\u3000"), (Strings{"\u3000"}));  // White_Space only
  EXPECT_EQ(Matches("[\\s.]+", "a . b"), (Strings{" . "}));
  EXPECT_EQ(Matches("^b$", "a\nb\nc"), (Strings{"b"}));  // ^ and $ are of lines
  EXPECT_EQ(Matches("\\p{L}+|\\x{31}+", "ab11"), (Strings{"ab", "11"}));
  EXPECT_EQ(Matches("a.c", "a\nc abc"), (Strings{"abc"}));
  EXPECT_EQ(Matches("x*", "axxb"), (Strings{"", "xx", ""}));
}

TEST(Regex, WhatDiffersBetweenEnginesIsRefused) {
  for (const char* pattern : {"[a-z&&[aeiou]]", "[[a]b]", "(?m)a.b", "(?s:a)", "(*LIMIT_MATCH=9)a",
                              "a(*SKIP)b", "\\Ca", "a{1,2}+", "\\d{1,2}+", "\\Qa\\E", "a(?C1)b",
                              "\\", "[]a]", "(unclosed", "[\\S]", "\\p{NoSuchThing}"}) {
    const auto regex = Regex::Compile(pattern);
    EXPECT_FALSE(regex.ok()) << pattern;
    EXPECT_NE(regex.status().message().find("split pattern '"), std::string::npos) << pattern;
  }
}

TEST(Regex, LongOrDeepPatternsAreRefused) {
  EXPECT_FALSE(Regex::Compile(std::string(17'000, 'a')).ok());
  EXPECT_FALSE(Regex::Compile(std::string(51, '(') + "a" + std::string(51, ')')).ok());
}

// Exponential in the text: the match limit ends it with an error, not with another split.
TEST(Regex, ExponentialPatternEndsInAnError) {
  const auto regex = Regex::Compile("(a+)+$");
  ASSERT_TRUE(regex.ok());
  std::vector<Range> matches;
  const Status status = regex->FindAll(std::string(40, 'a') + "b", Deadline(41), &matches);
  EXPECT_EQ(status.code(), Code::kOutOfRange) << status.ToString();
  EXPECT_NE(status.message().find("(a+)+$"), std::string::npos);
}

TEST(Regex, OneMegabyteOfSpacesIsNoHarm) {
  std::vector<Range> matches;
  const auto regex = Regex::Compile("\\s+(?!\\S)|\\s+|x");
  ASSERT_TRUE(regex.ok());
  EXPECT_TRUE(regex->FindAll(std::string(1 << 20, ' ') + "x", Deadline(1 << 20), &matches).ok());
  EXPECT_EQ(matches.size(), 3U);
}

}  // namespace
}  // namespace retort::text
