// The C++ side of retort_command_io: result lines out, input lines in, progress and messages.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/base/status.h"
#include "core/io/jsonl.h"
#include "host/report/progress.h"
#include "retort/host.h"

namespace retort::host {

class CommandIo {
 public:
  // `io` may be NULL or smaller than this version's: what is missing does nothing.
  explicit CommandIo(const retort_command_io* io);

  // CANCELLED once nobody listens.
  Status Line(std::string_view line);
  Status Lines(std::string_view text);  // each line of it; a last line feed ends no empty line
  Status Text(std::string_view text);
  bool streams() const { return (io_.flags & RETORT_IO_STREAM) != 0 && io_.text != nullptr; }

  void Message(std::string_view text) { Event(RETORT_EVENT_MESSAGE, text); }
  void Warning(std::string_view text) { Event(RETORT_EVENT_WARNING, text); }
  void Progress(const ProgressState& state);

  bool has_input() const { return io_.read != nullptr; }
  int64_t Read(void* data, uint64_t n) { return io_.read(io_.ctx, data, n); }

 private:
  void Event(uint32_t kind, std::string_view text);
  retort_command_io io_{};
  ProgressMeter meter_;
};

// The lines of a file, or of the input named "-" (or ""). Skips a BOM and empty lines, takes CRLF.
class InputLines {
 public:
  static Result<InputLines> Open(const std::string& path, CommandIo& io);
  // What io.Read gives; `name` stands for the file in errors.
  static InputLines FromIo(CommandIo& io, std::string name = "standard input");

  // The next line, or absent at the end; lives until the next call.
  Result<std::optional<std::string_view>> Next();
  std::string where() const;  // "file:line" of the line last read
  double fraction() const;    // of the file read so far; negative: not known

 private:
  InputLines() = default;
  Result<std::optional<std::string_view>> NextFromCallback();

  std::optional<io::JsonlReader> file_;
  uint64_t file_bytes_ = 0;
  CommandIo* io_ = nullptr;  // else this
  std::string name_;
  std::string buffer_;
  size_t begin_ = 0;  // of what is unread in buffer_
  bool at_end_ = false;
  int64_t line_ = 0;
};

}  // namespace retort::host
