// Memory that ops work in: grows to what the largest call needed and keeps it, so that repeated
// steps allocate nothing. One per thread of calls (ops of a pass run one after the other).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

namespace retort::ops {

class Workspace {
 public:
  // At least `bytes` bytes, 64-byte aligned; what was there before is lost.
  void* Reserve(int64_t bytes);
  int64_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(void* p) const;
  };
  std::unique_ptr<void, Free> memory_;
  int64_t bytes_ = 0;
};

}  // namespace retort::ops
