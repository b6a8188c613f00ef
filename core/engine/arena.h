// One block of memory for the buffers of a pass. It only grows, so steady-state passes allocate
// nothing; huge pages keep the page faults of a large block few. Contents don't survive growth.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace retort::engine {

class Arena {
 public:
  Arena() = default;
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // At least `bytes`, page-aligned. Throws Error (RESOURCE_EXHAUSTED, with the size) if the system
  // has none left.
  void Reserve(int64_t bytes);
  unsigned char* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  int64_t growths() const { return growths_; }  // for tests: stands still in the steady state

 private:
  unsigned char* data_ = nullptr;
  int64_t bytes_ = 0, growths_ = 0;
};

}  // namespace retort::engine
