// Records: what a data set holds, one JSON object a line, in any of the formats of
// docs/formats.md brought to one shape. Columns that no rule names are kept as they are.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/json/json.h"
#include "core/text/chat.h"

namespace retort::data {

// One answer that came with a record (format open_r1).
struct Generation {
  std::string completion;
  std::string finish;  // "" if the file has none
};

// A column: its name and its value as JSON text.
struct Column {
  std::string name, json;
};

struct Record {
  uint64_t uid = 0;
  std::string where;  // "file:line", for errors

  // What there is to train on or to ask; at least one of text, prompt, messages is set.
  // A `prompt` or `completion` given as a list of messages lies in `messages`.
  std::optional<std::string> text, prompt, completion;
  std::vector<text::Message> messages;
  std::vector<Generation> generations;

  std::vector<Column> columns;  // every column after `map`, in file order, mapped ones last

  const Column* Find(std::string_view name) const;  // NULL if there is none
  // A column as text: strings decoded, other values as JSON; nothing if absent or null.
  std::optional<std::string> TextOf(std::string_view name) const;
  // The record as one line of JSON: "uid" (16 hex digits) and the columns.
  std::string Json() const;
};

struct RecordOptions {
  // auto, text, messages, prompt, preference, problem, alpaca, sharegpt, stratos, open_r1, verl
  std::string format = "auto";
  // target column -> column, or template with {column} ("{{" and "}}" are braces).
  std::vector<std::pair<std::string, std::string>> map = {};
  int64_t limit = -1;        // of good records; negative: all
  double max_bad_lines = 0;  // share of lines that may be unreadable; they are quarantined
};

std::vector<std::string> RecordFormats();

// Checks format and templates once; names the key at fault.
Status CheckRecordOptions(const RecordOptions& options);

struct BadLine {
  int64_t line = 0;
  std::string reason;
};
struct RecordSet {
  std::vector<Record> records;
  std::vector<BadLine> bad_lines;  // quarantined: at most max_bad_lines of all lines
  int64_t lines = 0;               // non-empty lines read
};

// Reads a whole file. A bad line over the allowed share is an error that names file:line.
// uids: of the line's `uid` (string or integer), else of the line's bytes; a repeat gets the
// uid of (line, count). Two equal user-given uids are a bad line.
Result<RecordSet> ReadRecords(const std::string& path, const RecordOptions& options);
// The same over text already in memory (`what` stands for the file).
Result<RecordSet> ParseRecords(std::string_view jsonl, std::string_view what,
                               const RecordOptions& options);
// One line; `where` is "file:line". For the direct commands.
Result<Record> ParseRecord(std::string_view line, std::string_view where,
                           const RecordOptions& options);

// A list of {"role","content","reasoning"?} objects.
Result<std::vector<text::Message>> ReadMessages(const json::Value& value, std::string_view where);
void WriteMessages(const std::vector<text::Message>& messages, json::Writer* writer);

std::string UidToHex(uint64_t uid);                        // 16 digits, lower case
std::optional<uint64_t> UidFromHex(std::string_view hex);  // exactly 16 hex digits

}  // namespace retort::data
