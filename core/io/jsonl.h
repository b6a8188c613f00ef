// JSON lines: an appender whose file is whole up to a known offset, and a streaming reader that
// names file:line. Lines are at most 16 MB.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/base/status.h"
#include "core/io/filesystem.h"
#include "core/json/json.h"

namespace retort::io {

inline constexpr uint64_t kMaxLineBytes = uint64_t{16} << 20;

struct AppendOptions {
  // Where to go on: -1: after the last whole line (a torn one is cut off); otherwise the file is
  // cut at this offset, and DATA_LOSS if it is shorter.
  int64_t resume_offset = -1;
  bool sync_each_line = false;  // otherwise only Sync() does
};

class JsonlAppender {
 public:
  static Result<JsonlAppender> Open(FileSystem& fs, const std::string& path,
                                    const AppendOptions& options = {});
  // `line` without a newline in it (asserted); one write per line.
  Status Append(std::string_view line);
  Status Sync();
  uint64_t offset() const { return offset_; }  // bytes written so far, all whole lines

 private:
  JsonlAppender(std::string path, std::unique_ptr<WritableFile> file, uint64_t offset, bool sync)
      : path_(std::move(path)), file_(std::move(file)), offset_(offset), sync_each_line_(sync) {}
  std::string path_;
  std::unique_ptr<WritableFile> file_;
  uint64_t offset_ = 0;
  bool sync_each_line_ = false;
  std::string buffer_;
};

// Reads lines without holding the file in memory: skips a BOM, takes CRLF and a last line without
// newline, skips empty lines. After an error about one line (too long, not JSON) Next may be
// called again and goes on with the next line; after an error of the file `broken()` is true.
class JsonlReader {
 public:
  static Result<JsonlReader> Open(const std::string& path);
  JsonlReader(JsonlReader&&) noexcept;
  JsonlReader& operator=(JsonlReader&&) noexcept;
  ~JsonlReader();

  // The next non-empty line, or absent at the end. The view lives until the next call.
  Result<std::optional<std::string_view>> NextLine();
  // The next line parsed; errors begin with "file:line".
  Result<std::optional<json::Document>> Next();

  int64_t line() const;           // number of the line last read, from 1
  std::string_view text() const;  // the line last read
  std::string where() const;      // "file:line"
  bool broken() const;
  uint64_t bytes_read() const;  // up to the end of the line last read

 private:
  struct Impl;
  explicit JsonlReader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace retort::io
