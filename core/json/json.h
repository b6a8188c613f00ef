// JSON as retort reads and writes it: a flat array of nodes over one copied text, no recursion,
// refusals before allocation. The one wrapper over RapidJSON (docs: limits in reliability).
// Values know their byte offset, so that an error about a key can name line and column.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"

namespace retort::json {

enum class Type : uint8_t { kNull, kBool, kNumber, kString, kArray, kObject };

struct ParseOptions {
  uint64_t max_bytes = uint64_t{1} << 20;  // 1 MB: configs and manifests
  uint32_t max_depth = 64;
  uint32_t max_values = 8'000'000;
  uint32_t max_keys = 1'000'000;
  bool allow_comments = false;  // also trailing commas: pipeline files
};

struct Position {
  int64_t line = 1, column = 1;  // from 1, columns in bytes
};

class Document;
struct DocumentImpl;

// A borrowed handle to a node of a Document (which must outlive it; moving it is fine). Cheap to
// copy. A default-constructed Value is "absent": false in a condition, kNull, every look-up absent.
class Value {
 public:
  Value() = default;
  explicit operator bool() const { return impl_ != nullptr; }

  Type type() const;
  bool is_null() const { return type() == Type::kNull; }
  bool is_object() const { return type() == Type::kObject; }
  bool is_array() const { return type() == Type::kArray; }
  bool is_string() const { return type() == Type::kString; }
  bool is_number() const { return type() == Type::kNumber; }
  bool is_bool() const { return type() == Type::kBool; }

  size_t size() const;                           // members or elements; 0 for scalars
  Value operator[](size_t index) const;          // element of an array; absent if out of range
  Value operator[](std::string_view key) const;  // member of an object; absent if not there
  std::string_view key_at(size_t index) const;   // of an object, in file order
  Value value_at(size_t index) const;            // of an object, in file order

  // Checked readings: a wrong type, a fraction where an integer is asked for, or an overflow is
  // an error that says so. Integers never go through double.
  Result<bool> AsBool() const;
  Result<int64_t> AsInt() const;
  Result<uint64_t> AsUint() const;
  Result<double> AsDouble() const;
  Result<std::string_view> AsString() const;  // lives as long as the document; may hold NULs

  // The reading, or `fallback` if absent, null or of another type.
  bool BoolOr(bool fallback) const;
  int64_t IntOr(int64_t fallback) const;
  double DoubleOr(double fallback) const;
  std::string_view StringOr(std::string_view fallback) const;

  std::string_view number_text() const;  // as written in the file
  Position position() const;             // of its first byte; of the key for members: key_position
  Position key_position() const;

  std::string Dump() const;  // compact; numbers as written, key order kept

 private:
  friend class Document;
  friend class Writer;
  Value(const DocumentImpl* impl, uint32_t node) : impl_(impl), node_(node) {}
  const DocumentImpl* impl_ = nullptr;
  uint32_t node_ = 0;
};

class Document {
 public:
  // Refuses: over a limit, duplicate keys, bad UTF-8, bytes after the value, depth. The message
  // has `what` (a file name, say), line:column and the rule.
  static Result<Document> Parse(std::string_view text, std::string_view what,
                                const ParseOptions& options = {});
  Document(Document&&) noexcept;  // Values stay valid over moves of the document
  Document& operator=(Document&&) noexcept;
  ~Document();

  Value root() const;

 private:
  explicit Document(std::unique_ptr<DocumentImpl> impl);
  std::unique_ptr<DocumentImpl> impl_;
};

// Writes JSON into a string. Doubles with the shortest digits that read back equal; non-finite
// doubles are written as null. Calls must balance (asserted).
class Writer {
 public:
  explicit Writer(int indent = 0) : indent_(indent) {}  // 0: one line
  Writer& BeginObject();
  Writer& EndObject();
  Writer& BeginArray();
  Writer& EndArray();
  Writer& Key(std::string_view key);
  Writer& String(std::string_view text);  // broken UTF-8 becomes U+FFFD
  Writer& Int(int64_t value);
  Writer& Uint(uint64_t value);
  Writer& Double(double value);
  Writer& Float(float value);  // shortest digits that read back equal as float
  Writer& Bool(bool value);
  Writer& Null();
  Writer& Raw(std::string_view json);  // already valid JSON
  Writer& Copy(const Value& value);

  // Key and value in one.
  Writer& Field(std::string_view key, std::string_view text) { return Key(key).String(text); }
  Writer& Field(std::string_view key, const char* text) { return Key(key).String(text); }
  Writer& Field(std::string_view key, const std::string& text) { return Key(key).String(text); }
  Writer& Field(std::string_view key, int64_t value) { return Key(key).Int(value); }
  Writer& Field(std::string_view key, int value) { return Key(key).Int(value); }
  Writer& Field(std::string_view key, uint64_t value) { return Key(key).Uint(value); }
  Writer& Field(std::string_view key, uint32_t value) { return Key(key).Uint(value); }
  Writer& Field(std::string_view key, double value) { return Key(key).Double(value); }
  Writer& Field(std::string_view key, bool value) { return Key(key).Bool(value); }

  const std::string& text() const { return out_; }
  std::string Take() { return std::move(out_); }

 private:
  void Separate();
  int indent_;
  std::string out_;
  std::vector<uint8_t> stack_;  // bit 0: array, bit 1: has an element
  bool after_key_ = false;
};

// The known word nearest to `word` (Damerau-Levenshtein distance at most a third of its length,
// at least 1), or nothing: for "did you mean".
std::optional<std::string> Nearest(std::string_view word, const std::vector<std::string>& known);

}  // namespace retort::json
