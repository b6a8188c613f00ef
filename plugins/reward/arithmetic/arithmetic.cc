// The share of the equations in a completion that hold: whole numbers with + - * between them, then
// = and a number ("4+8+1=13"). Says nothing about which steps there should be, so it needs no gold.
// SPDX-License-Identifier: Apache-2.0
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "retort/sdk/reward.h"

namespace {

using retort::sdk::Call;
using retort::sdk::Sample;
using retort::sdk::Verdict;

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "whole": {"type": "boolean", "default": false,
              "description": "1 if every equation holds, else 0, instead of their share"}
  }
})";

// Reads one equation from the start of a text. Blanks around signs are passed over.
class Equation {
 public:
  explicit Equation(std::string_view text) : text_(text) {}

  // Whether the text starts with a sum or product, "=" and a number.
  bool Read() {
    if (!Sum() || n_operators_ == 0 || !Sign("=")) return false;
    const bool negative = Sign("-") != 0;
    const std::optional<int64_t> right = Number();
    if (!right) return false;
    right_ = negative ? -*right : *right;
    return true;
  }
  bool holds() const { return !overflow_ && left_ == right_; }
  size_t length() const { return at_; }

 private:
  bool Sum() {
    std::optional<int64_t> term = Product();
    if (!term) return false;
    left_ = *term;
    while (const char sign = Sign("+-")) {
      term = Product();
      if (!term) return false;
      const bool over = sign == '+' ? __builtin_add_overflow(left_, *term, &left_)
                                    : __builtin_sub_overflow(left_, *term, &left_);
      overflow_ = overflow_ || over;
    }
    return true;
  }
  std::optional<int64_t> Product() {
    std::optional<int64_t> all = Number();
    while (all && Sign("*")) {
      const std::optional<int64_t> factor = Number();
      if (!factor) return std::nullopt;
      int64_t product = 0;
      overflow_ = __builtin_mul_overflow(*all, *factor, &product) || overflow_;
      all = product;
    }
    return all;
  }
  // Of up to 18 digits; longer ones make the equation one that does not hold.
  std::optional<int64_t> Number() {
    Blanks();
    const size_t begin = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
    if (at_ == begin) return std::nullopt;
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text_.data() + begin, text_.data() + at_, value);
    overflow_ = overflow_ || error != std::errc{};
    return value;
  }
  // One of these signs, passed over; 0: none stands here.
  char Sign(std::string_view signs) {
    Blanks();
    if (at_ == text_.size() || signs.find(text_[at_]) == std::string_view::npos) return 0;
    if (text_[at_] != '=') ++n_operators_;
    return text_[at_++];
  }
  void Blanks() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }

  std::string_view text_;
  size_t at_ = 0;
  int n_operators_ = 0;
  int64_t left_ = 0, right_ = 0;
  bool overflow_ = false;
};

constexpr bool IsDigit(char c) { return c >= '0' && c <= '9'; }

class Arithmetic {
 public:
  static constexpr uint32_t kFlags = RETORT_REWARD_PURE;

  explicit Arithmetic(const retort::sdk::Config& config) : whole_(config.Bool("whole")) {}

  // A completion without equations scores 0: nothing is worked out.
  Verdict Score(const Call&, const Sample& sample) {
    const std::string_view text = sample.completion();
    int64_t n = 0, right = 0;
    for (size_t at = 0; at < text.size();) {
      if (!IsDigit(text[at])) {
        ++at;
        continue;
      }
      Equation equation(text.substr(at));
      if (equation.Read()) {
        ++n;
        right += equation.holds() ? 1 : 0;
      }
      at += equation.length();
    }
    const double share = n > 0 ? static_cast<double>(right) / static_cast<double>(n) : 0;
    return Verdict::Ok(
        whole_ ? (n > 0 && right == n ? 1 : 0) : share,
        "{\"equations\":" + std::to_string(n) + ",\"right\":" + std::to_string(right) + "}");
  }

 private:
  bool whole_ = false;
};

RETORT_REWARD("arithmetic", Arithmetic, "share of the written equations (4+8+1=13) that hold",
              kSchema);

}  // namespace
