// Reading nodes: look-ups and checked conversions.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/json/document_impl.h"

namespace retort::json {
namespace {

const char* TypeName(Type type) {
  constexpr const char* kNames[] = {"null",     "a boolean", "a number",
                                    "a string", "an array",  "an object"};
  return kNames[static_cast<size_t>(type)];
}

Status WrongType(const Value& value, const char* wanted) {
  if (!value) return InvalidArgument(std::string("missing: expected ") + wanted);
  return InvalidArgument(std::string("expected ") + wanted + ", found " + TypeName(value.type()));
}

template <class T>
Result<T> ParseInteger(const Value& value) {
  if (!value.is_number()) return WrongType(value, "an integer");
  const std::string_view text = value.number_text();
  T out{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error == std::errc::result_out_of_range) {
    return InvalidArgument("integer " + std::string(text) + " is out of range");
  }
  if (error != std::errc{} || end != text.data() + text.size()) {
    return InvalidArgument("expected " +
                           std::string(std::is_unsigned_v<T> ? "a non-negative " : "an ") +
                           "integer, found " + std::string(text));
  }
  return out;
}

}  // namespace

Value Document::root() const { return {impl_.get(), 0}; }

Type Value::type() const { return impl_ ? impl_->nodes[node_].type : Type::kNull; }

size_t Value::size() const { return is_array() || is_object() ? impl_->nodes[node_].count : 0; }

Value Value::value_at(size_t index) const {
  if (index >= size()) return {};
  return {impl_, impl_->children[impl_->nodes[node_].start + index]};
}

Value Value::operator[](size_t index) const { return is_array() ? value_at(index) : Value(); }

std::string_view Value::key_at(size_t index) const {
  if (!is_object() || index >= size()) return {};
  return impl_->KeyOf(impl_->children[impl_->nodes[node_].start + index]);
}

Value Value::operator[](std::string_view key) const {
  if (!is_object()) return {};
  const Node& node = impl_->nodes[node_];
  const uint32_t* list = impl_->children.data() + node.start;
  if (node.count <= kLinearMembers) {
    for (const uint32_t* child = list; child != list + node.count; ++child) {
      if (impl_->KeyOf(*child) == key) return {impl_, *child};
    }
    return {};
  }
  const uint32_t *sorted = list + node.count, *end = sorted + node.count;
  const uint32_t* found = std::lower_bound(
      sorted, end, key, [this](uint32_t a, std::string_view k) { return impl_->KeyOf(a) < k; });
  return found != end && impl_->KeyOf(*found) == key ? Value(impl_, *found) : Value();
}

Result<bool> Value::AsBool() const {
  if (!is_bool()) return WrongType(*this, "a boolean");
  return impl_->nodes[node_].truth;
}

Result<int64_t> Value::AsInt() const { return ParseInteger<int64_t>(*this); }
Result<uint64_t> Value::AsUint() const { return ParseInteger<uint64_t>(*this); }

Result<double> Value::AsDouble() const {
  if (!is_number()) return WrongType(*this, "a number");
  const std::string_view text = number_text();
  double out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error == std::errc{}) return out;
  // Out of range is too large or, with a negative exponent or none, too small: that is zero.
  const size_t exponent = text.find_first_of("eE");
  const bool tiny = exponent == text.npos ? text.find('.') != text.npos && text.size() < 400
                                          : text.find('-', exponent) != text.npos;
  if (tiny) return text.front() == '-' ? -0.0 : 0.0;
  return InvalidArgument("number " + std::string(text.substr(0, 40)) + " is out of range");
}

Result<std::string_view> Value::AsString() const {
  if (!is_string()) return WrongType(*this, "a string");
  return impl_->Bytes(impl_->nodes[node_]);
}

bool Value::BoolOr(bool fallback) const { return is_bool() ? impl_->nodes[node_].truth : fallback; }

int64_t Value::IntOr(int64_t fallback) const {
  const Result<int64_t> value = AsInt();
  return value.ok() ? *value : fallback;
}

double Value::DoubleOr(double fallback) const {
  const Result<double> value = AsDouble();
  return value.ok() ? *value : fallback;
}

std::string_view Value::StringOr(std::string_view fallback) const {
  return is_string() ? impl_->Bytes(impl_->nodes[node_]) : fallback;
}

std::string_view Value::number_text() const {
  return is_number() ? impl_->Bytes(impl_->nodes[node_]) : std::string_view();
}

Position Value::position() const { return impl_ ? impl_->At(impl_->nodes[node_].pos) : Position{}; }

Position Value::key_position() const {
  if (!impl_ || !impl_->nodes[node_].is_member) return position();
  return impl_->At(impl_->nodes[node_ - 1].pos);
}

std::string Value::Dump() const { return impl_ ? Writer().Copy(*this).Take() : "null"; }

}  // namespace retort::json
