// Keeps completions within bounds on tokens (stop token included) and characters (code points).
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "retort/sdk/filter.h"

namespace {

using retort::sdk::Call;
using retort::sdk::Decision;
using retort::sdk::Failure;
using retort::sdk::JsonValue;
using retort::sdk::Sample;

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

// Code points: bytes that don't continue one. Broken UTF-8 counts its bytes the same way.
int64_t CountCharacters(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

// Bounds on one unit; reasons are the same for all samples, so that the audit can count them.
class Bounds {
 public:
  Bounds(const JsonValue& config, const char* unit)
      : min_(config.Int(std::string("min_") + unit, 0)),
        max_(config.Int(std::string("max_") + unit, kNoLimit)),
        unit_(unit) {
    if (min_ > max_) {
      throw Failure(RETORT_INVALID_ARGUMENT, "/min_" + unit_ + ": is " + std::to_string(min_) +
                                                 ", above max_" + unit_ + " " +
                                                 std::to_string(max_));
    }
  }
  bool used() const { return min_ > 0 || max_ != kNoLimit; }
  Decision Judge(int64_t n) const {
    if (n < min_) return Decision::Drop("fewer than " + std::to_string(min_) + " " + unit_);
    if (n > max_) return Decision::Drop("more than " + std::to_string(max_) + " " + unit_);
    return Decision::Keep();
  }

 private:
  int64_t min_, max_;
  std::string unit_;
};

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "min_tokens": {"type": "integer", "minimum": 0, "description": "fewest tokens kept"},
    "max_tokens": {"type": "integer", "minimum": 1, "description": "most tokens kept"},
    "min_chars": {"type": "integer", "minimum": 0, "description": "fewest characters kept"},
    "max_chars": {"type": "integer", "minimum": 1, "description": "most characters kept"}
  }
})";

class Length {
 public:
  explicit Length(const retort::sdk::Config& config)
      : tokens_(config, "tokens"), chars_(config, "chars") {
    if (!tokens_.used() && !chars_.used()) {
      throw Failure(
          RETORT_INVALID_ARGUMENT,
          "(config): no bound is set; give min_tokens, max_tokens, min_chars or max_chars");
    }
  }

  uint32_t Flags() const {
    return RETORT_FILTER_CONCURRENT | (tokens_.used() ? RETORT_FILTER_NEEDS_IDS : 0);
  }

  Decision Judge(const Call&, const Sample& sample) {
    if (tokens_.used()) {
      if (!sample.has_ids()) return Decision::Error("the sample has no token ids");
      Decision d = tokens_.Judge(static_cast<int64_t>(sample.completion_ids().size()));
      if (d.action != RETORT_KEEP) return d;
    }
    return chars_.used() ? chars_.Judge(CountCharacters(sample.completion())) : Decision::Keep();
  }

 private:
  Bounds tokens_, chars_;
};

RETORT_FILTER("length", Length, "keeps completions within bounds on tokens and characters",
              kSchema);

}  // namespace
