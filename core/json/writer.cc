// Writing JSON text; copying parsed values into it.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cassert>
#include <charconv>
#include <cmath>

#include "core/json/document_impl.h"

namespace retort::json {
namespace {

constexpr uint8_t kArrayBit = 1, kHasElement = 2;

// Length of the well-formed UTF-8 character at `s` (RFC 3629: no surrogates, nothing overlong,
// nothing above U+10FFFF); 0 if there is none.
size_t Utf8Length(std::string_view s) {
  const auto byte = [&s](size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned char c = byte(0);
  if (c < 0x80) return 1;
  const size_t n = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
  if (c < 0xC2 || c > 0xF4 || s.size() < n) return 0;
  for (size_t i = 1; i < n; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const unsigned char d = byte(1);
  const bool bad = (c == 0xE0 && d < 0xA0) || (c == 0xED && d >= 0xA0) || (c == 0xF0 && d < 0x90) ||
                   (c == 0xF4 && d >= 0x90);
  return bad ? 0 : n;
}

void AppendEscaped(char c, std::string* out) {
  constexpr std::string_view kNamed = "\"\\\b\f\n\r\t", kLetters = "\"\\bfnrt";
  if (const size_t i = kNamed.find(c); i != kNamed.npos) {
    out->append({'\\', kLetters[i]});
    return;
  }
  constexpr char kHex[] = "0123456789abcdef";
  out->append("\\u00").append({kHex[c >> 4 & 15], kHex[c & 15]});
}

void AppendQuoted(std::string_view text, std::string* out) {
  out->push_back('"');
  size_t plain = 0;  // start of what needs no escape
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (static_cast<unsigned char>(c) >= 0x80) {
      const size_t n = Utf8Length(text.substr(i));
      if (n == 0) {
        out->append(text, plain, i - plain).append("\xEF\xBF\xBD");
        plain = i + 1;
      }
      i += std::max<size_t>(n, 1);
      continue;
    }
    if (static_cast<unsigned char>(c) < 0x20 || c == '"' || c == '\\') {
      out->append(text, plain, i - plain);
      AppendEscaped(c, out);
      plain = i + 1;
    }
    ++i;
  }
  out->append(text, plain, text.size() - plain).push_back('"');
}

template <class T>
void AppendNumber(T value, std::string* out) {
  char buffer[40];
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, value);
  out->append(buffer, result.ptr);
}

// Shortest digits, plain unless the exponent is far out (as Python writes them); a whole value
// keeps ".0", so that it reads back as floating point elsewhere.
template <class T>
void AppendFloating(T value, std::string* out) {
  if (!std::isfinite(value)) {
    out->append("null");
    return;
  }
  const T size = std::abs(value);
  const bool plain = size == 0 || (size >= static_cast<T>(1e-4) && size < static_cast<T>(1e16));
  char buffer[64];
  const auto result =
      std::to_chars(buffer, buffer + sizeof buffer, value,
                    plain ? std::chars_format::fixed : std::chars_format::scientific);
  const std::string_view digits(buffer, static_cast<size_t>(result.ptr - buffer));
  out->append(digits).append(plain && digits.find('.') == digits.npos ? ".0" : "");
}

}  // namespace

void Writer::Separate() {
  if (after_key_) {
    after_key_ = false;
    return;
  }
  if (stack_.empty()) return;
  if (stack_.back() & kHasElement) out_.push_back(',');
  stack_.back() |= kHasElement;
  if (indent_ > 0) {
    out_.push_back('\n');
    out_.append(stack_.size() * static_cast<size_t>(indent_), ' ');
  }
}

Writer& Writer::BeginObject() {
  Separate();
  out_.push_back('{');
  stack_.push_back(0);
  return *this;
}

Writer& Writer::BeginArray() {
  Separate();
  out_.push_back('[');
  stack_.push_back(kArrayBit);
  return *this;
}

Writer& Writer::EndObject() {
  assert(!stack_.empty() && !(stack_.back() & kArrayBit) && !after_key_);
  const bool broken_line = indent_ > 0 && (stack_.back() & kHasElement);
  stack_.pop_back();
  if (broken_line) out_.append("\n").append(stack_.size() * static_cast<size_t>(indent_), ' ');
  out_.push_back('}');
  return *this;
}

Writer& Writer::EndArray() {
  assert(!stack_.empty() && (stack_.back() & kArrayBit));
  const bool broken_line = indent_ > 0 && (stack_.back() & kHasElement);
  stack_.pop_back();
  if (broken_line) out_.append("\n").append(stack_.size() * static_cast<size_t>(indent_), ' ');
  out_.push_back(']');
  return *this;
}

Writer& Writer::Key(std::string_view key) {
  assert(!stack_.empty() && !(stack_.back() & kArrayBit) && !after_key_);
  Separate();
  AppendQuoted(key, &out_);
  out_.append(indent_ > 0 ? ": " : ":");
  after_key_ = true;
  return *this;
}

Writer& Writer::String(std::string_view text) {
  Separate();
  AppendQuoted(text, &out_);
  return *this;
}

Writer& Writer::Int(int64_t value) {
  Separate();
  AppendNumber(value, &out_);
  return *this;
}

Writer& Writer::Uint(uint64_t value) {
  Separate();
  AppendNumber(value, &out_);
  return *this;
}

Writer& Writer::Double(double value) {
  Separate();
  AppendFloating(value, &out_);
  return *this;
}

Writer& Writer::Float(float value) {
  Separate();
  AppendFloating(value, &out_);
  return *this;
}

Writer& Writer::Bool(bool value) { return Raw(value ? "true" : "false"); }
Writer& Writer::Null() { return Raw("null"); }

Writer& Writer::Raw(std::string_view json) {
  Separate();
  out_.append(json);
  return *this;
}

// A value's descendants follow it in the node array, so copying is one walk over a range; the
// stack holds how many children each open container still waits for.
Writer& Writer::Copy(const Value& value) {
  if (!value) return Null();
  const DocumentImpl& doc = *value.impl_;
  std::vector<std::pair<uint32_t, bool>> open;  // children to come, is object
  for (uint32_t i = value.node_;; ++i) {
    const Node& node = doc.nodes[i];
    const bool in_object = !open.empty() && open.back().second;
    if (in_object && !node.is_member) {  // a key
      Key(doc.Bytes(node));
      continue;
    }
    if (!open.empty()) --open.back().first;
    switch (node.type) {
      case Type::kNull: Null(); break;
      case Type::kBool: Bool(node.truth); break;
      case Type::kNumber: Raw(doc.Bytes(node)); break;
      case Type::kString: String(doc.Bytes(node)); break;
      case Type::kArray:
        BeginArray();
        open.emplace_back(node.count, false);
        break;
      case Type::kObject:
        BeginObject();
        open.emplace_back(node.count, true);
        break;
    }
    for (; !open.empty() && open.back().first == 0; open.pop_back()) {
      open.back().second ? EndObject() : EndArray();
    }
    if (open.empty()) return *this;
  }
}

}  // namespace retort::json
