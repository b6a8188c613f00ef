// 1 if the completion has the prescribed shape, else 0. Without tags the shape is open-r1's
//   ^<think>\n.*?\n</think>\n<answer>\n.*?\n</answer>$   (DOTALL, MULTILINE, from position 0)
// and with tags: each pair once, in order, nothing outside them but whitespace.
// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <string_view>
#include <vector>

#include "retort/sdk/reward.h"

namespace {

using retort::sdk::Call;
using retort::sdk::Failure;
using retort::sdk::JsonValue;
using retort::sdk::Sample;
using retort::sdk::Verdict;

struct Tag {
  std::string open, close;
};

// The pattern above without a regex engine: the earliest middle part leaves the most room for the
// end, so one search each decides. "$" matches before a newline too.
bool MatchesThinkAnswer(std::string_view text) {
  constexpr std::string_view kOpen = "<think>\n", kMiddle = "\n</think>\n<answer>\n",
                             kClose = "\n</answer>";
  if (!text.starts_with(kOpen)) return false;
  const size_t middle = text.find(kMiddle, kOpen.size());
  if (middle == std::string_view::npos) return false;
  size_t at = middle + kMiddle.size();
  while ((at = text.find(kClose, at)) != std::string_view::npos) {
    at += kClose.size();
    if (at == text.size() || text[at] == '\n') return true;
  }
  return false;
}

std::string_view SkipSpace(std::string_view text) {
  const size_t n = text.find_first_not_of(" \t\n\r\f\v");
  return n == std::string_view::npos ? std::string_view() : text.substr(n);
}

bool OccursOnce(std::string_view text, std::string_view tag) {
  const size_t at = text.find(tag);
  return at != std::string_view::npos && text.find(tag, at + 1) == std::string_view::npos;
}

bool MatchesTags(std::string_view text, const std::vector<Tag>& tags) {
  for (const Tag& tag : tags) {
    if (!OccursOnce(text, tag.open) || !OccursOnce(text, tag.close)) return false;
  }
  std::string_view rest = text;
  for (const Tag& tag : tags) {
    rest = SkipSpace(rest);
    if (!rest.starts_with(tag.open)) return false;
    rest.remove_prefix(tag.open.size());
    const size_t close = rest.find(tag.close);
    if (close == std::string_view::npos) return false;
    rest.remove_prefix(close + tag.close.size());
  }
  return SkipSpace(rest).empty();
}

std::string ReadTag(const JsonValue& value) {
  const std::string_view text = value.AsString();
  if (text.empty()) throw Failure(RETORT_INVALID_ARGUMENT, value.name() + ": a tag can't be empty");
  return std::string(text);
}

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "tags": {"type": "array",
             "items": {"type": "array", "items": {"type": "string"}},
             "description": "pairs [open, close] that replace <think> and <answer>"}
  }
})";

class Format {
 public:
  static constexpr uint32_t kFlags = RETORT_REWARD_PURE;

  explicit Format(const retort::sdk::Config& config) {
    const JsonValue tags = config["tags"];
    for (size_t i = 0; i < tags.size(); ++i) {
      const JsonValue pair = tags.at(i);
      if (pair.size() != 2) {
        throw Failure(RETORT_INVALID_ARGUMENT, pair.name() + ": has " +
                                                   std::to_string(pair.size()) +
                                                   " texts, must be a pair [open, close]");
      }
      tags_.push_back({ReadTag(pair.at(0)), ReadTag(pair.at(1))});
      if (tags_.back().open == tags_.back().close) {
        throw Failure(RETORT_INVALID_ARGUMENT,
                      pair.name() + ": open and close tag are the same, they must differ");
      }
    }
    if (tags && tags_.empty()) {
      throw Failure(RETORT_INVALID_ARGUMENT,
                    "/tags: is empty; leave it out for the think and answer tags");
    }
  }

  Verdict Score(const Call&, const Sample& sample) {
    const std::string_view text = sample.completion();
    return Verdict::Ok((tags_.empty() ? MatchesThinkAnswer(text) : MatchesTags(text, tags_)) ? 1
                                                                                             : 0);
  }

 private:
  std::vector<Tag> tags_;
};

RETORT_REWARD("format", Format, "1 if the completion has the prescribed tags, else 0", kSchema);

}  // namespace
