// Whole texts through the host's sinks and readers, which may take or give a few bytes at a time.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_STREAM_H_
#define RETORT_SDK_STREAM_H_

#include <array>
#include <string>
#include <string_view>

#include "retort/abi/types.h"
#include "retort/sdk/guard.h"

namespace retort::sdk {

inline std::string ReadAll(const retort_reader& reader) {
  std::string out;
  std::array<char, 4096> buffer;
  for (;;) {
    const int64_t n = reader.read(reader.ctx, buffer.data(), buffer.size());
    if (n < 0) throw Failure(RETORT_ABORTED, "reading the state failed");
    if (n == 0) return out;
    out.append(buffer.data(), static_cast<size_t>(n));
  }
}

inline void WriteAll(const retort_sink& sink, std::string_view bytes) {
  while (!bytes.empty()) {
    const int64_t n = sink.write(sink.ctx, bytes.data(), bytes.size());
    if (n <= 0) throw Failure(RETORT_ABORTED, "writing failed");
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

}  // namespace retort::sdk

#endif  // RETORT_SDK_STREAM_H_
