// Bytes at an address that is a multiple of 8, with nothing readable behind them that a test could
// miss: the copy is exactly as long as the text.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <string_view>

namespace retort::host {

class AlignedBytes {
 public:
  explicit AlignedBytes(const std::string& bytes) : data_(new char[bytes.size()]) {
    size_ = bytes.size();
    std::memcpy(data_.get(), bytes.data(), size_);
  }
  std::string_view view() const { return {data_.get(), size_}; }

 private:
  std::unique_ptr<char[]> data_;
  size_t size_ = 0;
};

}  // namespace retort::host
