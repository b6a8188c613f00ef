// A source: problems made from nothing, the same ones in every run.
// SPDX-License-Identifier: Apache-2.0
#include <charconv>
#include <string>
#include <string_view>

#include "retort/sdk/rng.h"
#include "retort/sdk/source.h"

namespace {

// [source.begin]
using retort::sdk::Call;
using retort::sdk::Failure;
using retort::sdk::Record;

class Additions {
 public:
  explicit Additions(const retort::sdk::Config& config)
      : n_(static_cast<uint64_t>(config.Int("n"))),
        seed_(static_cast<uint64_t>(config.Int("seed"))) {}

  // From the seed, not from call.key(): a record's uid must mean the same record in every run.
  bool Next(const Call&, Record& record) {
    if (next_ == n_) return false;
    retort::sdk::Rng rng(retort::sdk::Mix({0, seed_}, next_));
    const uint64_t a = rng.Below(1000), b = rng.Below(1000);
    record.Set(next_,
               R"({"prompt": "What is )" + std::to_string(a) + " + " + std::to_string(b) +
                   R"(?", "gold": ")" + std::to_string(a + b) + "\"}",
               "additions:" + std::to_string(next_));
    ++next_;
    return true;
  }

  std::string Save() const { return std::to_string(next_); }
  void Load(std::string_view state) {
    uint64_t next = 0;
    const char* end = state.data() + state.size();
    const auto [rest, error] = std::from_chars(state.data(), end, next);
    if (error != std::errc{} || rest != end || next > n_) {
      throw Failure(RETORT_DATA_LOSS, "not a position of this source");
    }
    next_ = next;
  }

 private:
  uint64_t n_, seed_, next_ = 0;
};

RETORT_SOURCE("additions", Additions, "problems of addition", R"({
  "type": "object",
  "properties": {"n": {"type": "integer", "minimum": 0, "default": 1000},
                 "seed": {"type": "integer", "minimum": 0, "default": 0}}
})");
// [source.end]

}  // namespace
