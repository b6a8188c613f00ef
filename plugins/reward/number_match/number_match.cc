// 1 if the last number of the completion equals the gold number, else 0: GSM8K's rule. Numbers are
// compared as decimals of any length, never as floating point.
// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "retort/sdk/reward.h"

namespace {

using retort::sdk::Call;
using retort::sdk::Sample;
using retort::sdk::Verdict;

constexpr bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// The match of [-+]?[0-9][0-9,]*(\.[0-9]+)? that starts at `at`, or "".
std::string_view NumberAt(std::string_view text, size_t at) {
  size_t i = at;
  if (text[i] == '-' || text[i] == '+') ++i;
  if (i >= text.size() || !IsDigit(text[i])) return {};
  while (i < text.size() && (IsDigit(text[i]) || text[i] == ',')) ++i;
  if (i + 1 < text.size() && text[i] == '.' && IsDigit(text[i + 1])) {
    ++i;
    while (i < text.size() && IsDigit(text[i])) ++i;
  }
  return text.substr(at, i - at);
}

// Equal numbers get equal texts: no commas, no plus, no outer zeros, no "-0".
std::string Normalize(std::string_view number) {
  const bool negative = number.front() == '-';
  if (negative || number.front() == '+') number.remove_prefix(1);
  const size_t dot = number.find('.');
  std::string whole, fraction;
  for (const char c : number.substr(0, dot)) {
    if (c != ',' && !(whole.empty() && c == '0')) whole += c;
  }
  if (dot != std::string_view::npos) fraction = number.substr(dot + 1);
  while (!fraction.empty() && fraction.back() == '0') fraction.pop_back();
  if (whole.empty()) whole = "0";
  std::string out = fraction.empty() ? whole : whole + "." + fraction;
  return negative && out != "0" ? "-" + out : out;
}

// Matches don't overlap, as in Python's findall.
std::optional<std::string> FindNumber(std::string_view text, bool last) {
  std::string_view found;
  for (size_t i = 0; i < text.size();) {
    const std::string_view number = NumberAt(text, i);
    if (!number.empty()) {
      found = number;
      if (!last) break;
    }
    i += number.empty() ? 1 : number.size();
  }
  if (found.empty()) return std::nullopt;
  return Normalize(found);
}

// After the last "####" if there is one, else the last number.
std::optional<std::string> GoldNumber(std::string_view gold) {
  constexpr std::string_view kMark = "####";
  const size_t mark = gold.rfind(kMark);
  if (mark == std::string_view::npos) return FindNumber(gold, /*last=*/true);
  return FindNumber(gold.substr(mark + kMark.size()), /*last=*/false);
}

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "gold": {"type": "string", "default": "answer",
             "description": "the record's column with the reference, for samples without a gold"}
  }
})";

class NumberMatch {
 public:
  static constexpr uint32_t kFlags = RETORT_REWARD_PURE;

  explicit NumberMatch(const retort::sdk::Config& config)
      : gold_column_(config.String("gold")), host_(config.host()) {}

  Verdict Score(const Call&, const Sample& sample) {
    const std::optional<std::string> gold = Gold(sample);
    if (!gold) return Verdict::NotApplicable();
    const std::optional<std::string> answer = FindNumber(sample.completion(), /*last=*/true);
    if (!answer) return Verdict::Ok(0, R"({"answer":null})");
    return Verdict::Ok(*answer == *gold ? 1 : 0, "{\"answer\":\"" + *answer + "\"}");
  }

  std::optional<std::string> Answer(const Call&, const Sample& sample) {
    return FindNumber(sample.completion(), /*last=*/true);
  }

 private:
  std::optional<std::string> Gold(const Sample& sample) const {
    if (sample.has_gold()) return GoldNumber(sample.gold());
    if (sample.record().empty()) return std::nullopt;
    const auto record = host_.Parse(sample.record());
    const retort::sdk::JsonValue column = record->root()[gold_column_];
    if (column.is_string()) return GoldNumber(column.AsString());
    if (column.is_number()) return FindNumber(column.number_text(), /*last=*/true);
    return std::nullopt;
  }

  std::string gold_column_;
  retort::sdk::Host host_;
};

RETORT_REWARD("number_match", NumberMatch,
              "1 if the last number equals the gold answer (GSM8K's ####), else 0", kSchema);

}  // namespace
