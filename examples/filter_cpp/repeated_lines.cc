// A filter in C++ with the SDK: drops completions that say the same line again and again, as small
// models do when they get lost. One class, one registration line.
// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <set>
#include <string_view>

#include "retort/sdk/filter.h"

namespace {

using retort::sdk::Call;
using retort::sdk::Decision;
using retort::sdk::Sample;

// [filter.begin]
constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "max_share": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.3,
                  "description": "largest share of lines that were there before"}
  }
})";

class RepeatedLines {
 public:
  static constexpr uint32_t kFlags = RETORT_FILTER_CONCURRENT;  // Judge changes nothing

  explicit RepeatedLines(const retort::sdk::Config& config)
      : max_share_(config.Double("max_share")) {}

  Decision Judge(const Call&, const Sample& sample) const {
    return RepeatedShare(sample.completion()) > max_share_ ? Decision::Drop("repeated lines")
                                                           : Decision::Keep();
  }

 private:
  // Of lines that are not empty.
  static double RepeatedShare(std::string_view text) {
    std::set<std::string_view> seen;
    size_t n = 0, repeated = 0;
    while (!text.empty()) {
      const std::string_view line = text.substr(0, text.find('\n'));
      text.remove_prefix(line.size() < text.size() ? line.size() + 1 : text.size());
      if (line.empty()) continue;
      ++n;
      if (!seen.insert(line).second) ++repeated;
    }
    return n == 0 ? 0 : static_cast<double>(repeated) / static_cast<double>(n);
  }

  double max_share_;
};

RETORT_FILTER("repeated_lines", RepeatedLines, "drops completions that repeat their lines",
              kSchema);
// [filter.end]

}  // namespace
