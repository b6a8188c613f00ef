// Problems of addition with solutions written out digit by digit, from a seed. A share of the
// solutions is wrong, in a step or in the result, as a careless author's are: what a filter is to
// find. Record i depends on (seed, i) alone, so the position is a number.
// SPDX-License-Identifier: Apache-2.0
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "retort/sdk/rng.h"
#include "retort/sdk/source.h"

namespace {

using retort::sdk::Call;
using retort::sdk::Config;
using retort::sdk::Failure;
using retort::sdk::Record;
using retort::sdk::Rng;

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "digits": {"type": "integer", "minimum": 1, "maximum": 17, "default": 3,
               "description": "of both numbers"},
    "n": {"type": "integer", "minimum": 0, "maximum": 1000000000, "default": 1000,
          "description": "records"},
    "seed": {"type": "integer", "minimum": 0, "default": 1, "description": "of problems and mistakes"},
    "wrong_share": {"type": "number", "minimum": 0, "maximum": 1, "default": 0,
                    "description": "probability that a solution is wrong"}
  }
})";

// One column of the written sum.
struct Step {
  uint64_t a = 0, b = 0, carry = 0, sum = 0;
};

class Addition {
 public:
  explicit Addition(const Config& config)
      : digits_(config.Int("digits")),
        n_(config.Int("n")),
        seed_(static_cast<uint64_t>(config.Int("seed"))),
        wrong_share_(config.Double("wrong_share")) {
    for (int64_t i = 0; i < digits_; ++i) limit_ *= 10;
  }

  bool Next(const Call&, Record& record) {
    if (next_ == n_) return false;
    const retort_key key = retort::sdk::Mix({0, seed_}, static_cast<uint64_t>(next_));
    record.Set(key.lo, Problem(Rng(key)), "addition, record " + std::to_string(next_));
    ++next_;
    return true;
  }

  std::string Save() const { return kHead + std::to_string(next_); }

  void Load(std::string_view state) {
    int64_t next = -1;
    const bool ours = state.starts_with(kHead);
    if (ours) state.remove_prefix(std::string_view(kHead).size());
    const char* end = state.data() + state.size();
    const auto [rest, error] = std::from_chars(state.data(), end, next);
    if (!ours || error != std::errc{} || rest != end || next < 0 || next > n_) {
      throw Failure(RETORT_DATA_LOSS, "a saved position of " + std::to_string(state.size()) +
                                          " bytes is not one of this source (\"addition 1 N\")");
    }
    next_ = next;
  }

 private:
  static constexpr const char* kHead = "addition 1 ";

  std::string Problem(Rng rng) const {
    const uint64_t least = digits_ == 1 ? 0 : limit_ / 10;
    const uint64_t a = least + rng.Below(limit_ - least), b = least + rng.Below(limit_ - least);
    const bool wrong = rng.Uniform() < wrong_share_;
    std::vector<Step> steps = Work(a, b, -1, 0);
    uint64_t result = a + b;
    if (wrong) {
      const auto column = static_cast<int64_t>(rng.Below(static_cast<uint64_t>(digits_)));
      const int slip = rng.Below(2) == 0 ? -1 : 1;
      switch (rng.Below(3)) {
        case 0:  // a column is added up wrongly, and the result follows from it
          steps = Work(a, b, column, slip);
          result = ReadOff(steps);
          break;
        case 1: steps = WithSlip(std::move(steps), column, slip); break;  // the result is right
        default: result = WithoutDigit(rng, column, result);              // copied wrongly
      }
    }
    return Json(a, b, steps, result, wrong);
  }

  // Column by column; the sum of one of them is off by `slip` (none, if there is no such column).
  std::vector<Step> Work(uint64_t a, uint64_t b, int64_t column, int slip) const {
    std::vector<Step> steps;
    uint64_t carry = 0;
    for (int64_t i = 0; i < digits_; ++i, a /= 10, b /= 10) {
      steps.push_back({a % 10, b % 10, carry, a % 10 + b % 10 + carry});
      if (i == column) steps.back().sum = Off(steps.back().sum, slip);
      carry = steps.back().sum / 10;
    }
    return steps;
  }
  static std::vector<Step> WithSlip(std::vector<Step> steps, int64_t column, int slip) {
    uint64_t& sum = steps[static_cast<size_t>(column)].sum;
    sum = Off(sum, slip);
    return steps;
  }
  static uint64_t Off(uint64_t sum, int slip) {
    if (slip == 0) return sum;
    return slip < 0 && sum > 0 ? sum - 1 : sum + 1;
  }
  static uint64_t ReadOff(const std::vector<Step>& steps) {
    uint64_t result = 0, place = 1;
    for (const Step& step : steps) {
      result += step.sum % 10 * place;
      place *= 10;
    }
    return result + steps.back().sum / 10 * place;
  }
  // The number with the digit of that column replaced by another.
  static uint64_t WithoutDigit(Rng& rng, int64_t column, uint64_t number) {
    uint64_t place = 1;
    for (; column > 0; --column) place *= 10;
    const uint64_t digit = number / place % 10;
    return number - digit * place + (digit + 1 + rng.Below(9)) % 10 * place;
  }

  static std::string Json(uint64_t a, uint64_t b, const std::vector<Step>& steps, uint64_t result,
                          bool wrong) {
    std::string work;
    for (const Step& step : steps) {
      work += (work.empty() ? "" : ";") + std::to_string(step.a) + "+" + std::to_string(step.b);
      work += (step.carry > 0 ? "+" + std::to_string(step.carry) : "") + "=";
      work += std::to_string(step.sum);
    }
    return "{\"prompt\":\"" + std::to_string(a) + "+" + std::to_string(b) +
           "=\",\"completion\":\"" + work + "#" + std::to_string(result) + "\",\"answer\":\"" +
           std::to_string(a + b) + "\",\"wrong\":" + (wrong ? "true" : "false") + "}";
  }

  int64_t digits_ = 0, n_ = 0;
  uint64_t seed_ = 0;
  double wrong_share_ = 0;
  uint64_t limit_ = 1;  // 10 to the power of digits_
  int64_t next_ = 0;
};

RETORT_SOURCE("addition", Addition, "sums of two numbers, worked out in steps, some of them wrong",
              kSchema);

}  // namespace
