// `map`: target column -> source column, or a template over columns.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "core/data/record_internal.h"

namespace retort::data {
namespace {

bool IsTemplate(std::string_view text) {
  return text.find_first_of("{}") != std::string_view::npos;
}

// Calls text(literal) and column(name) for the parts of a template, in order.
template <class Text, class Name>
Status WalkTemplate(std::string_view source, Text text, Name column) {
  for (size_t at = 0; at < source.size();) {
    const size_t brace = std::min(source.find_first_of("{}", at), source.size());
    text(source.substr(at, brace - at));
    if (brace == source.size()) break;
    if (source.substr(brace, 2) == "{{" || source.substr(brace, 2) == "}}") {
      text(source.substr(brace, 1));
      at = brace + 2;
      continue;
    }
    const size_t close = source.find('}', brace);
    if (source[brace] == '}' || close == std::string_view::npos || close == brace + 1) {
      return InvalidArgument("a single '" + std::string(1, source[brace]) + "' at byte " +
                             std::to_string(brace) +
                             "; columns are written {column}, braces {{ and }}");
    }
    RETORT_RETURN_IF_ERROR(column(source.substr(brace + 1, close - brace - 1)));
    at = close + 1;
  }
  return OkStatus();
}

Status Missing(const json::Value& object, std::string_view name) {
  std::vector<std::string> known;
  for (size_t i = 0; i < object.size(); ++i) known.emplace_back(object.key_at(i));
  const auto nearest = json::Nearest(name, known);
  std::string message = "there is no column '" + std::string(name) + "'";
  if (nearest) message += "; did you mean '" + *nearest + "'?";
  return InvalidArgument(message);
}

Result<std::string> FillTemplate(std::string_view source, const json::Value& object) {
  std::string out;
  const Status status = WalkTemplate(
      source, [&](std::string_view text) { out += text; },
      [&](std::string_view name) {
        const json::Value value = object[name];
        if (!value) return Missing(object, name);
        if (value.is_null()) return InvalidArgument("column '" + std::string(name) + "' is null");
        out += value.is_string() ? std::string(value.StringOr("")) : value.Dump();
        return OkStatus();
      });
  if (!status.ok()) return status;
  return out;
}

}  // namespace

std::string JsonString(std::string_view text) {
  json::Writer writer;
  writer.String(text);
  return writer.Take();
}

Status CheckTemplate(std::string_view key, std::string_view text) {
  const Status status = WalkTemplate(
      text, [](std::string_view) {}, [](std::string_view) { return OkStatus(); });
  return status.ok() ? status : status.WithContext("map." + std::string(key));
}

Result<std::vector<Column>> MapColumns(const json::Value& object, const RecordOptions& options,
                                       std::string_view where) {
  const auto is_target = [&](std::string_view name) {
    return std::any_of(options.map.begin(), options.map.end(),
                       [&](const auto& entry) { return entry.first == name; });
  };
  std::vector<Column> columns;
  for (size_t i = 0; i < object.size(); ++i) {
    const std::string_view name = object.key_at(i);
    if (!is_target(name)) columns.push_back({std::string(name), object.value_at(i).Dump()});
  }
  for (const auto& [target, source] : options.map) {
    const std::string context = std::string(where) + ": map." + target;
    if (!IsTemplate(source)) {
      const json::Value value = object[source];
      if (!value) return Missing(object, source).WithContext(context);
      columns.push_back({target, value.Dump()});
      continue;
    }
    auto filled = FillTemplate(source, object);
    if (!filled.ok()) return filled.status().WithContext(context);
    columns.push_back({target, JsonString(*filled)});
  }
  return columns;
}

}  // namespace retort::data
