// What belongs to the whole process or the calling thread and a plugin must leave as it is.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace retort::host::check {

// Each part as text, so that two states compare and a difference reads well.
struct ProcessState {
  std::string locale, folder, file_mode, signals, float_mode, environment, descriptors, limits;
  static ProcessState Now();
};

// "" or what changed, with before and after.
std::string Difference(const char* what, const std::string& before, const std::string& after);

// Counted at this moment.
struct ProcessCounts {
  int64_t threads = 0, descriptors = 0, children = 0;
  uint64_t resident_bytes = 0;
  uint64_t heap_bytes = 0;  // malloc's, in use; 0 where that is not known
  static ProcessCounts Now();
};

// Threads of this process once no more end, after `seconds_max` at the latest.
int64_t SettledThreads(int64_t expected, double seconds_max);

// Standard output and error go into memory until it is destroyed; what came is in text().
class OutputCapture {
 public:
  OutputCapture();
  ~OutputCapture();
  OutputCapture(const OutputCapture&) = delete;
  OutputCapture& operator=(const OutputCapture&) = delete;
  std::string Finish();  // flushes C's and C++'s streams first

 private:
  int file_ = -1, saved_[2] = {-1, -1};
};

}  // namespace retort::host::check
