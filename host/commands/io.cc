// SPDX-License-Identifier: Apache-2.0
#include "host/commands/io.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/plugin_call.h"
#include "core/io/filesystem.h"

namespace retort::host {
namespace {

constexpr uint64_t kReadBytes = uint64_t{1} << 16;

bool IsWatched(const retort_command_io& io) { return (io.flags & RETORT_IO_WATCHED) != 0; }

retort_command_io Known(const retort_command_io* io) {
  retort_command_io known{};
  if (io == nullptr) return known;
  std::memcpy(&known, io, std::min<size_t>(io->struct_size, sizeof known));
  return known;
}

Status NobodyListens() { return Cancelled("nobody reads the result any more"); }

}  // namespace

CommandIo::CommandIo(const retort_command_io* io) : io_(Known(io)), meter_(IsWatched(io_)) {}

Status CommandIo::Line(std::string_view line) {
  if (io_.line == nullptr) return OkStatus();
  return io_.line(io_.ctx, ToStr(line)) == 0 ? OkStatus() : NobodyListens();
}

Status CommandIo::Lines(std::string_view text) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    RETORT_RETURN_IF_ERROR(Line(text.substr(0, end)));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return OkStatus();
}

Status CommandIo::Text(std::string_view text) {
  if (io_.text == nullptr) return OkStatus();
  return io_.text(io_.ctx, ToStr(text)) == 0 ? OkStatus() : NobodyListens();
}

void CommandIo::Event(uint32_t kind, std::string_view text) {
  if (io_.event == nullptr) return;
  retort_command_event event{};
  event.struct_size = sizeof event;
  event.kind = kind;
  event.fraction = -1;
  event.text = ToStr(text);
  io_.event(io_.ctx, &event);
}

void CommandIo::Progress(const ProgressState& state) {
  if (io_.event == nullptr) return;
  const std::optional<ProgressLine> line = meter_.Update(state);
  if (!line.has_value()) return;
  retort_command_event event{};
  event.struct_size = sizeof event;
  event.kind = RETORT_EVENT_PROGRESS;
  event.fraction = line->fraction;
  event.done = static_cast<int64_t>(state.done);
  event.total = static_cast<int64_t>(state.total);
  event.what = ToStr(state.what);
  event.unit = ToStr(state.unit);
  event.text = ToStr(line->text);
  io_.event(io_.ctx, &event);
}

Result<InputLines> InputLines::Open(const std::string& path, CommandIo& io) {
  if (path.empty() || path == "-") {
    if (!io.has_input()) return InvalidArgument("no input: name a file as `input`");
    return FromIo(io);
  }
  InputLines lines;
  RETORT_ASSIGN_OR_RETURN(lines.file_, io::JsonlReader::Open(path));
  const Result<io::FileInfo> info = io::RealFileSystem().Stat(path);
  if (info.ok()) lines.file_bytes_ = info->bytes;
  return lines;
}

InputLines InputLines::FromIo(CommandIo& io, std::string name) {
  InputLines lines;
  lines.io_ = &io;
  lines.name_ = std::move(name);
  return lines;
}

Result<std::optional<std::string_view>> InputLines::Next() {
  return file_.has_value() ? file_->NextLine() : NextFromCallback();
}

Result<std::optional<std::string_view>> InputLines::NextFromCallback() {
  for (;;) {
    const size_t end = buffer_.find('\n', begin_);
    if (end != std::string::npos || (at_end_ && begin_ < buffer_.size())) {
      std::string_view line = std::string_view(buffer_).substr(
          begin_, (end == std::string::npos ? buffer_.size() : end) - begin_);
      begin_ = end == std::string::npos ? buffer_.size() : end + 1;
      if (line_++ == 0 && line.starts_with("\xEF\xBB\xBF")) line.remove_prefix(3);
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (!line.empty()) return std::optional<std::string_view>(line);
      continue;
    }
    if (at_end_) return std::optional<std::string_view>();
    buffer_.erase(0, begin_);
    begin_ = 0;
    const size_t have = buffer_.size();
    if (have > io::kMaxLineBytes) {
      return InvalidArgument(name_ + ":" + std::to_string(line_ + 1) +
                             ": the line is longer than 16 MB");
    }
    buffer_.resize(have + kReadBytes);
    const int64_t got = io_->Read(buffer_.data() + have, kReadBytes);
    buffer_.resize(have + static_cast<size_t>(std::max<int64_t>(got, 0)));
    if (got < 0) return Unavailable(name_ + " can't be read");
    at_end_ = got == 0;
  }
}

std::string InputLines::where() const {
  return file_.has_value() ? file_->where() : name_ + ":" + std::to_string(line_);
}

double InputLines::fraction() const {
  if (!file_.has_value() || file_bytes_ == 0) return -1;
  return static_cast<double>(file_->bytes_read()) / static_cast<double>(file_bytes_);
}

}  // namespace retort::host
