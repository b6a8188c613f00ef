// "loss/metric" names that live as long as this object; nothing is allocated once all were seen.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <string>
#include <string_view>

namespace retort::engine {

class MetricNames {
 public:
  std::string_view Of(std::string_view loss, std::string_view metric) {
    for (const std::string& name : names_) {
      if (name.size() == loss.size() + 1 + metric.size() && name.starts_with(loss) &&
          name[loss.size()] == '/' && name.ends_with(metric)) {
        return name;
      }
    }
    return names_.emplace_back(std::string(loss) + "/" + std::string(metric));
  }

 private:
  std::deque<std::string> names_;
};

}  // namespace retort::engine
