// SPDX-License-Identifier: Apache-2.0
#include "core/data/record.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "core/base/hash.h"
#include "core/data/record_internal.h"
#include "core/io/jsonl.h"

namespace retort::data {
namespace {

constexpr uint64_t kMaxLineBytes = uint64_t{16} << 20;

// Reads lines into a set: quarantine, limit, uids.
class SetReader {
 public:
  SetReader(std::string_view what, const RecordOptions& options) : what_(what), options_(options) {}

  bool full() const {
    return options_.limit >= 0 && static_cast<int64_t>(set_.records.size()) >= options_.limit;
  }
  std::string Where(int64_t line) const { return what_ + ":" + std::to_string(line); }

  Status Add(std::string_view line, int64_t number) {
    ++set_.lines;
    auto record = ParseRecord(line, Where(number), options_);
    if (!record.ok()) return Quarantine(number, record.status());
    const bool own = record->Find("uid") != nullptr;
    if (!own) {
      record->uid = RepeatUid(line, record->uid);
    } else if (uids_.contains(record->uid)) {
      return Quarantine(number,
                        InvalidArgument(Where(number) + ": uid " + record->Find("uid")->json +
                                        " is already that of an earlier line"));
    }
    uids_.insert(record->uid);
    set_.records.push_back(std::move(*record));
    return OkStatus();
  }
  Status Quarantine(int64_t number, const Status& status) {
    if (first_bad_.ok()) first_bad_ = status;
    if (options_.max_bad_lines <= 0) return status;
    set_.bad_lines.push_back({number, status.message()});
    return OkStatus();
  }
  Result<RecordSet> Finish() {
    const auto bad = static_cast<double>(set_.bad_lines.size());
    if (bad > options_.max_bad_lines * static_cast<double>(set_.lines)) {
      return InvalidArgument(what_ + ": " + std::to_string(set_.bad_lines.size()) + " of " +
                             std::to_string(set_.lines) + " lines are bad, more than the share " +
                             "max_bad_lines " + std::to_string(options_.max_bad_lines) +
                             "; the first: " + first_bad_.message());
    }
    return std::move(set_);
  }
  void CountLine() { ++set_.lines; }

 private:
  // A line seen n times before gets the hash of itself and n.
  uint64_t RepeatUid(std::string_view line, uint64_t uid) {
    const int64_t count = repeats_[uid]++;
    if (count == 0) return uid;
    return XxHash64(std::string(line) + "#" + std::to_string(count));
  }

  std::string what_;
  const RecordOptions& options_;
  RecordSet set_;
  Status first_bad_;
  std::unordered_set<uint64_t> uids_;
  std::unordered_map<uint64_t, int64_t> repeats_;
};

// A uid given by the user: 16 hex digits are taken as they are (retort's own spelling), other
// strings and integers hashed by their text.
Result<uint64_t> GivenUid(const json::Value& uid, std::string_view where) {
  if (uid.is_string()) {
    const std::string_view text = uid.StringOr("");
    const auto hex = UidFromHex(text);
    return hex ? *hex : XxHash64(text);
  }
  if (uid.is_number() && uid.number_text().find_first_of(".eE") == std::string_view::npos) {
    return XxHash64(uid.number_text());
  }
  return InvalidArgument(std::string(where) + ": uid must be a string or an integer");
}

}  // namespace

const Column* Record::Find(std::string_view name) const {
  for (const Column& column : columns) {
    if (column.name == name) return &column;
  }
  return nullptr;
}

std::optional<std::string> Record::TextOf(std::string_view name) const {
  const Column* column = Find(name);
  if (column == nullptr || column->json == "null") return std::nullopt;
  if (!column->json.starts_with('"')) return column->json;
  const auto document = json::Document::Parse(column->json, where, {.max_bytes = kMaxLineBytes});
  if (!document.ok()) return std::nullopt;
  return std::string(document->root().StringOr(""));
}

std::string Record::Json() const {
  json::Writer writer;
  writer.BeginObject().Field("uid", UidToHex(uid));
  for (const Column& column : columns) {
    if (column.name != "uid") writer.Key(column.name).Raw(column.json);
  }
  return writer.EndObject().Take();
}

Status CheckRecordOptions(const RecordOptions& options) {
  if (!IsRecordFormat(options.format)) {
    const auto nearest = json::Nearest(options.format, RecordFormats());
    std::string known;
    for (const std::string& name : RecordFormats()) known += (known.empty() ? "" : ", ") + name;
    return InvalidArgument("format '" + options.format + "' is unknown" +
                           (nearest ? "; did you mean '" + *nearest + "'?" : "") +
                           " (known: " + known + ")");
  }
  if (!(options.max_bad_lines >= 0 && options.max_bad_lines <= 1)) {
    return InvalidArgument("max_bad_lines " + std::to_string(options.max_bad_lines) +
                           " is not a share from 0 to 1");
  }
  for (const auto& [target, source] : options.map) {
    RETORT_RETURN_IF_ERROR(CheckTemplate(target, source));
  }
  return OkStatus();
}

Result<Record> ParseRecord(std::string_view line, std::string_view where,
                           const RecordOptions& options) {
  RETORT_ASSIGN_OR_RETURN(const json::Document document,
                          json::Document::Parse(line, where, {.max_bytes = kMaxLineBytes}));
  const json::Value root = document.root();
  if (!root.is_object()) {
    return InvalidArgument(std::string(where) + ": the line is not a JSON object");
  }
  Record record;
  record.where = where;
  RETORT_ASSIGN_OR_RETURN(record.columns, MapColumns(root, options, where));
  record.uid = XxHash64(line);
  if (const Column* uid = record.Find("uid")) {  // also one that `map` made
    RETORT_ASSIGN_OR_RETURN(const json::Document given, json::Document::Parse(uid->json, where));
    RETORT_ASSIGN_OR_RETURN(record.uid, GivenUid(given.root(), where));
  }
  RETORT_RETURN_IF_ERROR(ReadFormat(options.format, where, &record));
  return record;
}

Result<RecordSet> ReadRecords(const std::string& path, const RecordOptions& options) {
  RETORT_RETURN_IF_ERROR(CheckRecordOptions(options));
  RETORT_ASSIGN_OR_RETURN(auto reader, io::JsonlReader::Open(path));
  SetReader set(path, options);
  while (!set.full()) {
    auto line = reader.NextLine();
    if (!line.ok()) {
      if (reader.broken()) return line.status();
      set.CountLine();
      RETORT_RETURN_IF_ERROR(set.Quarantine(reader.line(), line.status()));
      continue;
    }
    if (!line->has_value()) break;
    RETORT_RETURN_IF_ERROR(set.Add(**line, reader.line()));
  }
  return set.Finish();
}

Result<RecordSet> ParseRecords(std::string_view jsonl, std::string_view what,
                               const RecordOptions& options) {
  RETORT_RETURN_IF_ERROR(CheckRecordOptions(options));
  SetReader set(what, options);
  if (jsonl.starts_with("\xEF\xBB\xBF")) jsonl.remove_prefix(3);
  for (int64_t number = 1; !jsonl.empty() && !set.full(); ++number) {
    const size_t end = std::min(jsonl.find('\n'), jsonl.size());
    std::string_view line = jsonl.substr(0, end);
    jsonl.remove_prefix(std::min(end + 1, jsonl.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    RETORT_RETURN_IF_ERROR(set.Add(line, number));
  }
  return set.Finish();
}

std::string UidToHex(uint64_t uid) { return Hex64(uid); }

std::optional<uint64_t> UidFromHex(std::string_view hex) {
  if (hex.size() != 16) return std::nullopt;
  uint64_t value = 0;
  for (char c : hex) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return std::nullopt;
    value = value << 4 | static_cast<uint64_t>(digit);
  }
  return value;
}

}  // namespace retort::data
