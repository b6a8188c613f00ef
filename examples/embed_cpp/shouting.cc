// A filter that is linked into the application: drops completions with too many capitals.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string_view>

#include "retort/sdk/filter.h"

namespace {

class Shouting {
 public:
  explicit Shouting(const retort::sdk::Config& config) : max_share_(config.Double("max_share")) {}

  retort::sdk::Decision Judge(const retort::sdk::Call&, const retort::sdk::Sample& sample) const {
    const std::string_view text = sample.completion();
    const auto loud =
        std::count_if(text.begin(), text.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
    const double share =
        text.empty() ? 0 : static_cast<double>(loud) / static_cast<double>(text.size());
    return share > max_share_ ? retort::sdk::Decision::Drop("shouting")
                              : retort::sdk::Decision::Keep();
  }

 private:
  double max_share_;
};

RETORT_FILTER("shouting", Shouting, "drops completions with too many capitals", R"({
  "type": "object", "properties": {
    "max_share": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5,
                  "description": "largest share of capital letters"}}})");

}  // namespace
