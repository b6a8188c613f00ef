// JSON for plugins: configs, records, a model's config.json. Parsed by the host (interface
// retort.host.json), so that all plugins follow the host's limits and carry no parser. Values are
// cheap handles that live as long as their document; a wrong type or missing key throws Failure
// with the key's name. null counts as absent.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_JSON_H_
#define RETORT_SDK_JSON_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "retort/abi/host.h"
#include "retort/sdk/guard.h"

namespace retort::sdk {

class Host;
class Json;

class JsonValue {
 public:
  JsonValue() = default;  // absent

  bool present() const { return json_ != nullptr && value_.type != RETORT_JSON_NULL; }
  explicit operator bool() const { return present(); }
  bool is_bool() const { return present() && value_.type == RETORT_JSON_BOOL; }
  bool is_number() const { return present() && value_.type == RETORT_JSON_NUMBER; }
  bool is_string() const { return present() && value_.type == RETORT_JSON_STRING; }
  bool is_array() const { return present() && value_.type == RETORT_JSON_ARRAY; }
  bool is_object() const { return present() && value_.type == RETORT_JSON_OBJECT; }

  // This value; throws when it is absent or of another type.
  bool AsBool() const { return Expect(is_bool(), "true or false").value_.integer != 0; }
  int64_t AsInt() const {
    return Expect(is_number() && (value_.flags & RETORT_JSON_IS_INTEGER) != 0, "an integer")
        .value_.integer;
  }
  double AsDouble() const { return Expect(is_number(), "a number").value_.number; }
  std::string_view AsString() const { return ToView(Expect(is_string(), "a string").value_.text); }
  std::string_view number_text() const {
    return ToView(Expect(is_number(), "a number").value_.text);
  }

  // Arrays and objects; 0 and absent for anything else.
  size_t size() const { return is_array() || is_object() ? value_.size : 0; }
  JsonValue operator[](std::string_view key) const;
  bool has(std::string_view key) const { return (*this)[key].json_ != nullptr; }  // null too
  JsonValue at(size_t index) const;
  std::string_view key_at(size_t index) const;

  // Members by key: with a fallback it may be absent.
  bool Bool(std::string_view key) const { return Need(key).AsBool(); }
  int64_t Int(std::string_view key) const { return Need(key).AsInt(); }
  double Double(std::string_view key) const { return Need(key).AsDouble(); }
  std::string_view String(std::string_view key) const { return Need(key).AsString(); }
  bool Bool(std::string_view key, bool fallback) const {
    const JsonValue v = (*this)[key];
    return v ? v.AsBool() : fallback;
  }
  int64_t Int(std::string_view key, int64_t fallback) const {
    const JsonValue v = (*this)[key];
    return v ? v.AsInt() : fallback;
  }
  double Double(std::string_view key, double fallback) const {
    const JsonValue v = (*this)[key];
    return v ? v.AsDouble() : fallback;
  }
  std::string_view String(std::string_view key, std::string_view fallback) const {
    const JsonValue v = (*this)[key];
    return v ? v.AsString() : fallback;
  }

  std::string Dump() const;                          // compact JSON
  const std::string& name() const { return name_; }  // JSON pointer, for messages

 private:
  friend class Json;
  JsonValue(const Json* json, retort_json_value value, std::string name)
      : json_(json), value_(value), name_(std::move(name)) {}
  const JsonValue& Expect(bool fits, const char* what) const {
    if (!fits) {
      throw Failure(RETORT_INVALID_ARGUMENT,
                    name_ + (present() ? ": is not " : ": missing, should be ") + what);
    }
    return *this;
  }
  JsonValue Need(std::string_view key) const {
    JsonValue v = (*this)[key];
    if (!v) throw Failure(RETORT_INVALID_ARGUMENT, name_ + "/" + std::string(key) + ": missing");
    return v;
  }
  const Json* json_ = nullptr;
  retort_json_value value_{};
  std::string name_;
};

// A parsed text.
class Json {
 public:
  // Throws Failure with the host's reason.
  Json(const retort_host_json_v1* api, std::string_view text) : api_(api) {
    char error[256] = "";
    if (const retort_status s = api_->parse(api_->ctx, ToStr(text), &document_, error)) {
      throw Failure(s, error);
    }
  }
  Json(const Json&) = delete;
  Json& operator=(const Json&) = delete;
  ~Json() { api_->free(api_->ctx, document_); }

  JsonValue root() const {
    retort_json_value value{};
    api_->value(api_->ctx, document_, 0, &value);
    return {this, value, ""};
  }

 private:
  friend class JsonValue;
  const retort_host_json_v1* api_;
  retort_json_document* document_ = nullptr;
};

inline JsonValue JsonValue::operator[](std::string_view key) const {
  retort_json_value value{};
  if (!is_object() || json_->api_->member(json_->api_->ctx, json_->document_, value_.node,
                                          ToStr(key), &value) != RETORT_OK) {
    return {};
  }
  return {json_, value, name_ + "/" + std::string(key)};
}

inline JsonValue JsonValue::at(size_t index) const {
  retort_json_value value{};
  if (!present() || json_->api_->element(json_->api_->ctx, json_->document_, value_.node, index,
                                         nullptr, &value) != RETORT_OK) {
    return {};
  }
  return {json_, value, name_ + "/" + std::to_string(index)};
}

inline std::string_view JsonValue::key_at(size_t index) const {
  retort_json_value value{};
  retort_str key{};
  if (!is_object() || json_->api_->element(json_->api_->ctx, json_->document_, value_.node, index,
                                           &key, &value) != RETORT_OK) {
    return {};
  }
  return ToView(key);
}

// A JSON string literal with its quotes.
inline std::string Quote(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (u < 0x20) {
      out += std::string("\\u00") + kHex[u >> 4] + kHex[u & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

// Recursion ends at the host's depth limit.
inline std::string JsonValue::Dump() const {
  if (is_string()) return Quote(AsString());
  if (is_number()) return std::string(number_text());
  if (is_bool()) return AsBool() ? "true" : "false";
  if (!present()) return "null";
  std::string out = is_array() ? "[" : "{";
  for (size_t i = 0; i < size(); ++i) {
    if (i > 0) out += ",";
    if (is_object()) out += Quote(key_at(i)) + ":";
    out += at(i).Dump();
  }
  return out + (is_array() ? "]" : "}");
}

}  // namespace retort::sdk

#endif  // RETORT_SDK_JSON_H_
