// Records from a JSONL file, one object a line. A line that isn't one becomes a record with a
// failing status, and the next line follows. The position is a byte offset, so that a run resumes
// without reading from the start; a file that was changed behind the position is noticed.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "retort/sdk/rng.h"
#include "retort/sdk/source.h"

namespace {

using retort::sdk::Call;
using retort::sdk::Config;
using retort::sdk::Failure;
using retort::sdk::Host;
using retort::sdk::JsonValue;
using retort::sdk::Record;

constexpr uint64_t kMaxLineBytes = uint64_t{16} << 20;
constexpr size_t kBufferBytes = size_t{1} << 18;
constexpr uint64_t kSeenBytes = 4096;  // before the position, remembered by their hash

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "path": {"type": "string", "x-retort": "file", "description": "a JSONL file"},
    "fields": {"type": "array", "items": {"type": "string"}, "default": [],
               "description": "members that a record must have; others are left out; empty: all stay"}
  },
  "required": ["path"]
})";

uint64_t HashOf(std::string_view bytes) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  return hash;
}

// Of a line: by its bytes and its number, so that equal lines differ. Mixed, since FNV alone leaves
// its high bits poor for short lines.
uint64_t UidOf(std::string_view line, int64_t number) {
  return retort::sdk::Mix({0, HashOf(line)}, static_cast<uint64_t>(number)).lo;
}

// Lines of a file without their line ends, in pieces of a bounded size.
class LineReader {
 public:
  explicit LineReader(const std::string& path) : path_(path), file_(path, std::ios::binary) {
    if (!file_) {
      throw Failure(errno == EACCES ? RETORT_PERMISSION_DENIED : RETORT_NOT_FOUND,
                    "/path: can't open " + path + ": " + std::strerror(errno));
    }
  }

  // False at the end. too_long: the line has more than kMaxLineBytes and was passed over.
  bool Next(std::string* line, bool* too_long) {
    line->clear();
    *too_long = false;
    bool any = false;
    for (;;) {
      if (at_ == end_ && !Fill()) break;
      any = true;
      const char* begin = buffer_.data() + at_;
      const auto* newline = static_cast<const char*>(std::memchr(begin, '\n', end_ - at_));
      const size_t n = newline == nullptr ? end_ - at_ : static_cast<size_t>(newline - begin);
      *too_long = *too_long || line->size() + n > kMaxLineBytes;
      if (!*too_long) line->append(begin, n);
      at_ += n + (newline == nullptr ? 0 : 1);
      offset_ += n + (newline == nullptr ? 0 : 1);
      if (newline != nullptr) break;
    }
    if (*too_long) line->clear();
    if (line->ends_with('\r')) line->pop_back();
    return any;
  }

  uint64_t offset() const { return offset_; }  // of the next line
  const std::string& path() const { return path_; }

  void Seek(uint64_t offset) {
    file_.clear();
    file_.seekg(static_cast<std::streamoff>(offset));
    at_ = end_ = 0;
    offset_ = offset;
  }
  // The hash of the bytes right before `offset`; reading goes on where it was.
  uint64_t HashBefore(uint64_t offset) {
    const uint64_t back = offset_;
    std::string seen(std::min(offset, kSeenBytes), '\0');
    Seek(offset - seen.size());
    file_.read(seen.data(), static_cast<std::streamsize>(seen.size()));
    seen.resize(static_cast<size_t>(std::max<std::streamsize>(0, file_.gcount())));
    Seek(back);
    return HashOf(seen);
  }

 private:
  bool Fill() {
    errno = 0;
    file_.read(buffer_.data(), static_cast<std::streamsize>(buffer_.size()));
    if (file_.bad()) {
      throw Failure(RETORT_UNAVAILABLE, "reading " + path_ + " failed: " + std::strerror(errno));
    }
    at_ = 0;
    end_ = static_cast<size_t>(file_.gcount());
    return end_ > 0;
  }

  std::string path_;
  std::ifstream file_;
  std::vector<char> buffer_ = std::vector<char>(kBufferBytes);
  size_t at_ = 0, end_ = 0;
  uint64_t offset_ = 0;
};

class Jsonl {
 public:
  explicit Jsonl(const Config& config)
      : host_(config.host()), lines_(std::string(config.String("path"))) {
    const JsonValue fields = config["fields"];
    for (size_t i = 0; i < fields.size(); ++i) fields_.emplace_back(fields.at(i).AsString());
  }

  bool Next(const Call& call, Record& record) {
    std::string line;
    bool too_long = false;
    while (lines_.Next(&line, &too_long)) {
      call.ThrowIfCancelled();
      ++number_;
      if (number_ == 1 && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);
      if (!too_long && line.find_first_not_of(" \t\r") == std::string::npos) continue;
      Fill(line, too_long, record);
      return true;
    }
    return false;
  }

  std::string Save() {
    return "jsonl 1 " + std::to_string(lines_.offset()) + " " + std::to_string(number_) + " " +
           std::to_string(lines_.HashBefore(lines_.offset()));
  }

  void Load(std::string_view state) {
    const std::string_view whole = state;
    constexpr std::string_view kHead = "jsonl 1 ";
    uint64_t offset = 0, number = 0, hash = 0;
    if (!state.starts_with(kHead)) BadState(whole);
    state.remove_prefix(kHead.size());
    if (!Take(&state, &offset) || !Take(&state, &number) || !Take(&state, &hash) ||
        !state.empty() || number > offset) {
      BadState(whole);
    }
    if (lines_.HashBefore(offset) != hash) {
      throw Failure(RETORT_FAILED_PRECONDITION,
                    lines_.path() + " was changed since the position at byte " +
                        std::to_string(offset) + " was saved: start anew, or bring back the file");
    }
    lines_.Seek(offset);
    number_ = static_cast<int64_t>(number);
  }

 private:
  void Fill(const std::string& line, bool too_long, Record& record) {
    const uint64_t uid = UidOf(line, number_);
    const std::string where = lines_.path() + ":" + std::to_string(number_);
    if (too_long) {
      return record.SetBad(uid, RETORT_RESOURCE_EXHAUSTED, "",
                           where + ": the line has more than 16 MiB");
    }
    const auto failure = retort::sdk::FailureOf(
        [&] { record.Set(uid, fields_.empty() ? Checked(line) : Picked(line), where); });
    if (failure) record.SetBad(uid, failure->code(), line, where + ": " + failure->what());
  }

  std::string Checked(const std::string& line) const {
    if (!host_.Parse(line)->root().is_object()) {
      throw Failure(RETORT_INVALID_ARGUMENT, "is not a JSON object");
    }
    return line;
  }

  std::string Picked(const std::string& line) const {
    const auto json = host_.Parse(line);
    if (!json->root().is_object()) throw Failure(RETORT_INVALID_ARGUMENT, "is not a JSON object");
    std::string out = "{";
    for (const std::string& field : fields_) {
      const JsonValue root = json->root();
      if (!root.has(field)) {
        throw Failure(RETORT_NOT_FOUND, "has no member " + retort::sdk::Quote(field));
      }
      out += (out.size() > 1 ? ", " : "") + retort::sdk::Quote(field) + ": " + root[field].Dump();
    }
    return out + "}";
  }

  // A decimal number and the blank after it.
  static bool Take(std::string_view* text, uint64_t* out) {
    const auto [rest, error] = std::from_chars(text->data(), text->data() + text->size(), *out);
    if (error != std::errc{} || rest == text->data()) return false;
    text->remove_prefix(static_cast<size_t>(rest - text->data()));
    if (text->starts_with(' ')) text->remove_prefix(1);
    return true;
  }
  [[noreturn]] static void BadState(std::string_view state) {
    throw Failure(RETORT_DATA_LOSS,
                  "a saved position of " + std::to_string(state.size()) +
                      " bytes is not one of this source (\"jsonl 1 OFFSET LINE HASH\")");
  }

  Host host_;
  LineReader lines_;
  std::vector<std::string> fields_;
  int64_t number_ = 0;  // of the line read last
};

RETORT_SOURCE("jsonl", Jsonl, "records from a JSONL file", kSchema);

}  // namespace
