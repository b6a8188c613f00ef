// How many measurements of a chain entry may fail: the fuse of reliability. Above its rate the
// stage stops rather than going on with a plugin that does not work.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/status.h"

namespace retort::host {

class Fuse {
 public:
  Fuse() = default;
  explicit Fuse(double max_error_rate) : max_error_rate_(max_error_rate) {}

  void Count(uint64_t measured, uint64_t errors) { measured_ += measured, errors_ += errors; }
  // The text of the first error: said when the fuse blows.
  void Note(std::string_view error) {
    if (first_error_.empty()) first_error_ = error;
  }
  uint64_t errors() const { return errors_; }
  const std::string& first_error() const { return first_error_; }

  // ABORTED if the share of errors is above the rate. While samples still come it only looks once
  // a hundred were measured: one bad sample among the first ten says little.
  Status Check(std::string_view entry, bool at_end) const;

 private:
  double max_error_rate_ = 0.01;
  uint64_t measured_ = 0, errors_ = 0;
  std::string first_error_;
};

}  // namespace retort::host
