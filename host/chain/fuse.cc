// SPDX-License-Identifier: Apache-2.0
#include "host/chain/fuse.h"

#include <cstdio>

namespace retort::host {
namespace {

constexpr uint64_t kFewest = 100;

}  // namespace

Status Fuse::Check(std::string_view entry, bool at_end) const {
  if (errors_ == 0 || (!at_end && measured_ < kFewest)) return OkStatus();
  const double share = static_cast<double>(errors_) / static_cast<double>(measured_);
  if (share <= max_error_rate_) return OkStatus();
  char rule[96];
  std::snprintf(rule, sizeof rule, "%.3g%%, more than max_error_rate %.3g%%", share * 100,
                max_error_rate_ * 100);
  return {Code::kAborted, std::string(entry) + " failed on " + std::to_string(errors_) + " of " +
                              std::to_string(measured_) + " samples (" + rule +
                              "); the first error: " + first_error_};
}

}  // namespace retort::host
