// The split patterns of well-known tokenizers as hand-written scanners: same matches as the regex,
// many times faster. A pattern not listed here goes to PCRE2 (regex.h), which is also the oracle
// of the tests.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace retort::text {

enum class KnownPattern {
  kGpt2,
  kQwen2,         // each digit alone
  kLlama3,        // digits by threes
  kDigits3,       // \p{N}{1,3}
  kDeepseekCjk,   // runs of Han and kana
  kDeepseekText,  // the third split of DeepSeek-V3
};

// The scanner for exactly this pattern text, if there is one.
std::optional<KnownPattern> FindKnownPattern(std::string_view pattern);
std::string_view PatternText(KnownPattern pattern);

// End of the match that starts at `at` (< text.size(), valid UTF-8, a character's start); `at`
// itself if the pattern does not match there. Never an empty match.
size_t MatchAt(KnownPattern pattern, std::string_view text, size_t at);

}  // namespace retort::text
