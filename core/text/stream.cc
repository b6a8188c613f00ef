// Streaming: ids to whole characters, and text to text before a stop string.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "core/text/tokenizer.h"
#include "core/text/unicode.h"

namespace retort::text {

std::string StreamDecoder::Push(int32_t id) {
  std::string bytes = tokenizer_->TokenBytes(id);
  if (bytes.empty()) return {};
  if (!started_) bytes = tokenizer_->StripStart(std::move(bytes));
  started_ = true;
  pending_ += bytes;
  std::string whole;
  size_t at = 0;
  while (at < pending_.size()) {
    const std::string_view rest = std::string_view(pending_).substr(at);
    const Utf8Step step = NextUtf8(rest);
    if (step.kind == Utf8Step::kIncomplete) break;
    whole += step.kind == Utf8Step::kWhole ? rest.substr(0, step.bytes) : kReplacement;
    at += step.bytes;
  }
  pending_.erase(0, at);
  return whole;
}

std::string StreamDecoder::Flush() { return LossyUtf8(std::exchange(pending_, {})); }

std::string StopMatcher::Push(std::string_view text) {
  if (stopped_) return {};
  held_ += text;
  size_t hit = std::string::npos;
  for (const std::string& stop : stops_) {
    if (!stop.empty()) hit = std::min(hit, held_.find(stop));
  }
  if (hit != std::string::npos) {
    stopped_ = true;
    held_.resize(hit);
    return std::exchange(held_, {});
  }
  // Keep the longest end of the text that starts a stop string.
  size_t keep = 0;
  for (const std::string& stop : stops_) {
    for (size_t n = std::min(held_.size(), stop.empty() ? 0 : stop.size() - 1); n > keep; --n) {
      if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) keep = n;
    }
  }
  std::string out = held_.substr(0, held_.size() - keep);
  held_.erase(0, out.size());
  return out;
}

std::string StopMatcher::Flush() { return stopped_ ? std::string() : std::exchange(held_, {}); }

}  // namespace retort::text
