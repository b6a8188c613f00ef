// "Did you mean": Damerau-Levenshtein distance (optimal string alignment) over bytes.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/json/json.h"

namespace retort::json {
namespace {

size_t Distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before, last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = last[j - 1] + (a[i - 1] != b[j - 1]);
      row[j] = std::min({change, last[j] + 1, row[j - 1] + 1});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before = last;
    last = row;
  }
  return last[b.size()];
}

}  // namespace

std::optional<std::string> Nearest(std::string_view word, const std::vector<std::string>& known) {
  constexpr size_t kLongestWord = 256;  // beyond it nobody's slip of the finger
  if (word.size() > kLongestWord) return std::nullopt;
  size_t best = std::max<size_t>(1, word.size() / 3) + 1;
  const std::string* found = nullptr;
  for (const std::string& candidate : known) {
    const size_t gap = word.size() > candidate.size() ? word.size() - candidate.size()
                                                      : candidate.size() - word.size();
    if (gap >= best) continue;
    if (const size_t distance = Distance(word, candidate); distance < best) {
      best = distance;
      found = &candidate;
    }
  }
  return found ? std::optional<std::string>(*found) : std::nullopt;
}

}  // namespace retort::json
