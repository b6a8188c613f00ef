// SPDX-License-Identifier: Apache-2.0
#include "core/io/jsonl.h"

#include <fcntl.h>
#include <unistd.h>

#include <cassert>

#include "core/io/posix.h"

namespace retort::io {
namespace {

constexpr size_t kReadBytes = size_t{1} << 18;

// Offset behind the last newline of a file of `size` bytes; reads backwards in pieces.
Result<uint64_t> EndOfLastLine(const std::string& path, uint64_t size) {
  const Fd fd(Uninterrupted([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); }));
  if (!fd.ok()) return SystemError("open", path, errno);
  std::string piece(kReadBytes, '\0');
  for (uint64_t end = size; end > 0;) {
    const uint64_t n = std::min<uint64_t>(end, kReadBytes);
    const ssize_t got = Uninterrupted(
        [&] { return ::pread(fd.get(), piece.data(), n, static_cast<off_t>(end - n)); });
    if (got < 0) return SystemError("read", path, errno);
    if (static_cast<uint64_t>(got) != n) return DataLoss(path + ": shrank while it was read");
    const size_t newline = std::string_view(piece.data(), n).rfind('\n');
    if (newline != std::string_view::npos) return end - n + newline + 1;
    end -= n;
  }
  return uint64_t{0};
}

}  // namespace

// ---- appending -------------------------------------------------------------------------------

Result<JsonlAppender> JsonlAppender::Open(FileSystem& fs, const std::string& path,
                                          const AppendOptions& options) {
  const Result<FileInfo> info = fs.Stat(path);
  if (!info.ok() && info.status().code() != Code::kNotFound) return info.status();
  const uint64_t size = info.ok() ? info->bytes : 0;
  uint64_t offset = size;
  if (options.resume_offset >= 0) {
    offset = static_cast<uint64_t>(options.resume_offset);
    if (offset > size) {
      return DataLoss(path + ": has " + std::to_string(size) + " bytes, but " +
                      std::to_string(offset) + " were recorded as written");
    }
  } else if (size > 0) {
    RETORT_ASSIGN_OR_RETURN(offset, EndOfLastLine(path, size));
  }
  if (offset < size) RETORT_RETURN_IF_ERROR(fs.Truncate(path, offset));
  RETORT_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs.OpenAppend(path));
  if (!info.ok()) RETORT_RETURN_IF_ERROR(fs.SyncFolder(Parent(path)));
  return JsonlAppender(path, std::move(file), offset, options.sync_each_line);
}

Status JsonlAppender::Append(std::string_view line) {
  assert(line.find('\n') == line.npos);
  buffer_.assign(line).push_back('\n');
  RETORT_RETURN_IF_ERROR(file_->Append(buffer_));
  offset_ += buffer_.size();
  return sync_each_line_ ? file_->Sync() : OkStatus();
}

Status JsonlAppender::Sync() { return file_->Sync(); }

// ---- reading ---------------------------------------------------------------------------------

struct JsonlReader::Impl {
  std::string path;
  Fd fd;
  std::string buffer;  // bytes read and not yet consumed start at `begin`
  size_t begin = 0;
  uint64_t consumed = 0;  // bytes of the file before `begin`
  bool at_end = false, broken = false;
  int64_t line = 0;
  size_t text_begin = 0, text_size = 0;  // of the line last read, in `buffer`

  Status Fill();
  Result<bool> TakeLine();
  Status SkipRestOfLine();
};

// Reads another piece behind what is there; sets at_end.
Status JsonlReader::Impl::Fill() {
  buffer.erase(0, begin);
  begin = 0;
  const size_t old = buffer.size();
  buffer.resize(old + kReadBytes);
  const ssize_t n =
      Uninterrupted([&] { return ::read(fd.get(), buffer.data() + old, kReadBytes); });
  buffer.resize(old + static_cast<size_t>(std::max<ssize_t>(n, 0)));
  if (n < 0) {
    broken = true;
    return SystemError("read", path, errno);
  }
  at_end = n == 0;
  return OkStatus();
}

Status JsonlReader::Impl::SkipRestOfLine() {
  for (;;) {
    const size_t newline = buffer.find('\n', begin);
    const size_t end = newline == buffer.npos ? buffer.size() : newline + 1;
    consumed += end - begin;
    begin = end;
    if (newline != buffer.npos || at_end) return OkStatus();
    RETORT_RETURN_IF_ERROR(Fill());
  }
}

// The next line, empty or not, into text_begin and text_size; false at the end.
Result<bool> JsonlReader::Impl::TakeLine() {
  size_t searched = 0, newline = buffer.npos;
  while ((newline = buffer.find('\n', begin + searched)) == buffer.npos && !at_end) {
    searched = buffer.size() - begin;
    if (searched > kMaxLineBytes) break;
    RETORT_RETURN_IF_ERROR(Fill());
  }
  const size_t end = newline == buffer.npos ? buffer.size() : newline;
  if (newline == buffer.npos && begin == end) return false;
  ++line;
  if (end - begin > kMaxLineBytes) {
    RETORT_RETURN_IF_ERROR(SkipRestOfLine());
    text_size = 0;
    return InvalidArgument(path + ":" + std::to_string(line) + ": line longer than " +
                           std::to_string(kMaxLineBytes) + " bytes");
  }
  text_begin = begin;
  text_size = end - begin;
  begin = newline == buffer.npos ? end : newline + 1;
  consumed += begin - text_begin;
  if (line == 1 && std::string_view(buffer).substr(text_begin).starts_with("\xEF\xBB\xBF")) {
    text_begin += 3;
    text_size -= 3;
  }
  if (text_size > 0 && buffer[text_begin + text_size - 1] == '\r') --text_size;
  return true;
}

Result<JsonlReader> JsonlReader::Open(const std::string& path) {
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  impl->fd = Fd(Uninterrupted([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); }));
  if (!impl->fd.ok()) return SystemError("open", path, errno);
  RETORT_RETURN_IF_ERROR(impl->Fill());  // a folder is refused here
  return JsonlReader(std::move(impl));
}

Result<std::optional<std::string_view>> JsonlReader::NextLine() {
  for (;;) {
    RETORT_ASSIGN_OR_RETURN(const bool found, impl_->TakeLine());
    if (!found) return std::optional<std::string_view>();
    if (text().find_first_not_of(" \t") != std::string_view::npos) return std::optional(text());
  }
}

Result<std::optional<json::Document>> JsonlReader::Next() {
  RETORT_ASSIGN_OR_RETURN(const std::optional<std::string_view> line, NextLine());
  if (!line) return std::optional<json::Document>();
  // Positions inside the line are on its "line 1"; the file's line is in `what`.
  RETORT_ASSIGN_OR_RETURN(json::Document doc,
                          json::Document::Parse(*line, where(), {.max_bytes = kMaxLineBytes}));
  return std::optional<json::Document>(std::move(doc));
}

int64_t JsonlReader::line() const { return impl_->line; }
std::string_view JsonlReader::text() const {
  return std::string_view(impl_->buffer).substr(impl_->text_begin, impl_->text_size);
}
std::string JsonlReader::where() const { return impl_->path + ":" + std::to_string(impl_->line); }
bool JsonlReader::broken() const { return impl_->broken; }
uint64_t JsonlReader::bytes_read() const { return impl_->consumed; }

JsonlReader::JsonlReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
JsonlReader::JsonlReader(JsonlReader&&) noexcept = default;
JsonlReader& JsonlReader::operator=(JsonlReader&&) noexcept = default;
JsonlReader::~JsonlReader() = default;

}  // namespace retort::io
