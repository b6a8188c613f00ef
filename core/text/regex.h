// Split patterns from model files, run by PCRE2 under limits. Patterns are written for Oniguruma:
// what means something else in PCRE2 is translated or refused by name.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/clock.h"
#include "core/base/status.h"

namespace retort::text {

struct Range {
  size_t begin = 0, end = 0;
};

// Time for one text, however many pieces of it a pattern sees: 1 s and 1 s per MB.
class Deadline {
 public:
  explicit Deadline(size_t text_bytes) : seconds_(1.0 + static_cast<double>(text_bytes) * 1e-6) {}
  bool passed() const { return watch_.Seconds() > seconds_; }

 private:
  Stopwatch watch_;
  double seconds_;
};

class Regex {
 public:
  // `pattern` is valid UTF-8. `trusted`: one of our own patterns; compiled by JIT, whose depth
  // and heap PCRE2 can't limit.
  static Result<Regex> Compile(std::string_view pattern, bool trusted = false);
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  // Appends all matches in `text` (valid UTF-8), left to right, not overlapping. Over a limit of
  // docs/reliability: RESOURCE_EXHAUSTED that names the pattern. Thread-safe.
  Status FindAll(std::string_view text, const Deadline& deadline,
                 std::vector<Range>* matches) const;
  const std::string& pattern() const { return pattern_; }

 private:
  struct Impl;
  Regex(std::string pattern, std::unique_ptr<Impl> impl);
  std::string pattern_;
  std::unique_ptr<Impl> impl_;
};

// Oniguruma's spelling in PCRE2's, or why not. Exposed for its test.
Result<std::string> TranslatePattern(std::string_view pattern);

}  // namespace retort::text
