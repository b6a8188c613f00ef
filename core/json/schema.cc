// Validation is one recursive walk over schema and config together that writes the resolved
// config as it goes; the depth of both is bounded by the parser.
// SPDX-License-Identifier: Apache-2.0
#include "core/json/schema.h"

#include <algorithm>
#include <array>

namespace retort::json {
namespace {

constexpr std::array<std::string_view, 11> kKeywords = {
    "type",    "properties", "required", "enum",        "minimum",
    "maximum", "default",    "items",    "description", "additionalProperties",
    "x-retort"};
constexpr std::array<std::string_view, 7> kTypes = {"object",  "array",   "string", "number",
                                                    "integer", "boolean", "null"};

Status At(const std::string& pointer, std::string_view rule) {
  std::string message = pointer.empty() ? "(config)" : pointer;
  return InvalidArgument(message.append(": ").append(rule));
}

// RFC 6901: "~" is "~0", "/" is "~1".
std::string Child(const std::string& pointer, std::string_view key) {
  std::string out = pointer + "/";
  for (char c : key) c == '~' ? out.append("~0") : c == '/' ? out.append("~1") : out.append(1, c);
  return out;
}

bool HasType(const Value& value, std::string_view type) {
  switch (value.type()) {
    case Type::kNull: return type == "null";
    case Type::kBool: return type == "boolean";
    case Type::kString: return type == "string";
    case Type::kArray: return type == "array";
    case Type::kObject: return type == "object";
    case Type::kNumber: {
      const bool whole = value.number_text().find_first_of(".eE") == std::string_view::npos;
      return type == "number" || (type == "integer" && whole);
    }
  }
  return false;
}

std::string Shown(const Value& value) {
  std::string text = value.Dump();
  constexpr size_t kLongest = 60;
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text;
}

// Equal as JSON: numbers by value, the rest by their compact text.
bool SameValue(const Value& a, const Value& b) {
  if (a.type() != b.type()) return false;
  if (!a.is_number()) return a.Dump() == b.Dump();
  const Result<double> x = a.AsDouble(), y = b.AsDouble();
  return a.number_text() == b.number_text() || (x.ok() && y.ok() && *x == *y);
}

std::vector<std::string> Keys(const Value& object) {
  std::vector<std::string> keys;
  for (size_t i = 0; i < object.size(); ++i) keys.emplace_back(object.key_at(i));
  return keys;
}

std::string ListOf(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out.append(out.empty() ? "" : ", ").append(word);
  return out;
}

bool Contains(const Value& array, std::string_view word) {
  for (size_t i = 0; i < array.size(); ++i) {
    if (array[i].StringOr("") == word) return true;
  }
  return false;
}

// ---- a config against a schema ---------------------------------------------------------------

Status Resolve(const Value& schema, const Value& value, const std::string& pointer, Writer* out);

Status CheckType(const Value& schema, const Value& value, const std::string& pointer) {
  const Value type = schema["type"];
  if (!type) return OkStatus();
  std::string wanted;
  for (size_t i = 0; i < (type.is_array() ? type.size() : 1); ++i) {
    const std::string_view name = (type.is_array() ? type[i] : type).StringOr("");
    if (HasType(value, name)) return OkStatus();
    wanted.append(wanted.empty() ? "" : " or ").append(name);
  }
  return At(pointer, "expected " + wanted + ", found " + Shown(value));
}

Status CheckEnum(const Value& schema, const Value& value, const std::string& pointer) {
  const Value choices = schema["enum"];
  if (!choices) return OkStatus();
  std::vector<std::string> known;
  for (size_t i = 0; i < choices.size(); ++i) {
    if (SameValue(choices[i], value)) return OkStatus();
    known.push_back(choices[i].Dump());
  }
  const auto near = Nearest(value.Dump(), known);
  return At(pointer, Shown(value) + " is none of " + ListOf(known) +
                         (near ? "; did you mean " + *near + "?" : ""));
}

Status CheckBounds(const Value& schema, const Value& value, const std::string& pointer) {
  if (!value.is_number()) return OkStatus();
  RETORT_ASSIGN_OR_RETURN(const double number, value.AsDouble());
  const Value low = schema["minimum"], high = schema["maximum"];
  if (low && number < low.DoubleOr(number)) {
    return At(pointer, Shown(value) + " is below the minimum " + Shown(low));
  }
  if (high && number > high.DoubleOr(number)) {
    return At(pointer, Shown(value) + " is above the maximum " + Shown(high));
  }
  return OkStatus();
}

Status ResolveExtra(const Value& schema, const Value& value, const std::string& pointer,
                    Writer* out) {
  const Value properties = schema["properties"], extra = schema["additionalProperties"];
  for (size_t i = 0; i < value.size(); ++i) {
    const std::string_view key = value.key_at(i);
    if (properties[key]) continue;
    if (extra.is_object()) {
      out->Key(key);
      RETORT_RETURN_IF_ERROR(Resolve(extra, value.value_at(i), Child(pointer, key), out));
    } else if (extra.BoolOr(false)) {
      out->Key(key).Copy(value.value_at(i));
    } else {
      const std::vector<std::string> known = Keys(properties);
      const auto near = Nearest(key, known);
      return At(
          Child(pointer, key),
          "unknown key" + (near ? "; did you mean \"" + *near + "\"?" : std::string()) +
              (known.empty() ? " (no key is known here)" : " (known: " + ListOf(known) + ")"));
    }
  }
  return OkStatus();
}

Status ResolveObject(const Value& schema, const Value& value, const std::string& pointer,
                     Writer* out) {
  const Value properties = schema["properties"], required = schema["required"];
  out->BeginObject();
  for (size_t i = 0; i < properties.size(); ++i) {
    const std::string_view key = properties.key_at(i);
    const Value property = properties.value_at(i), given = value[key];
    const Value used = given ? given : property["default"];
    if (used) {
      out->Key(key);
      RETORT_RETURN_IF_ERROR(Resolve(property, used, Child(pointer, key), out));
    } else if (Contains(required, key)) {
      return At(Child(pointer, key), "required key is missing");
    }
  }
  for (size_t i = 0; i < required.size(); ++i) {
    const std::string_view key = required[i].StringOr("");
    if (!properties[key] && !value[key]) return At(Child(pointer, key), "required key is missing");
  }
  RETORT_RETURN_IF_ERROR(ResolveExtra(schema, value, pointer, out));
  out->EndObject();
  return OkStatus();
}

Status Resolve(const Value& schema, const Value& value, const std::string& pointer, Writer* out) {
  RETORT_RETURN_IF_ERROR(CheckType(schema, value, pointer));
  RETORT_RETURN_IF_ERROR(CheckEnum(schema, value, pointer));
  RETORT_RETURN_IF_ERROR(CheckBounds(schema, value, pointer));
  const bool closed = schema["properties"] || schema["additionalProperties"];
  if (value.is_object() && closed) return ResolveObject(schema, value, pointer, out);
  if (value.is_array() && schema["items"]) {
    out->BeginArray();
    for (size_t i = 0; i < value.size(); ++i) {
      RETORT_RETURN_IF_ERROR(
          Resolve(schema["items"], value[i], Child(pointer, std::to_string(i)), out));
    }
    out->EndArray();
    return OkStatus();
  }
  out->Copy(value);
  return OkStatus();
}

// ---- the schema itself -----------------------------------------------------------------------

Status CheckNode(const Value& schema, const std::string& pointer);

Status CheckTypeKeyword(const Value& type, const std::string& pointer) {
  for (size_t i = 0; i < (type.is_array() ? type.size() : 1); ++i) {
    const Value name = type.is_array() ? type[i] : type;
    if (std::find(kTypes.begin(), kTypes.end(), name.StringOr("")) == kTypes.end()) {
      return At(pointer + "/type", "no JSON type is called " + name.Dump());
    }
  }
  return OkStatus();
}

Status CheckKeyword(std::string_view key, const Value& value, const std::string& pointer) {
  const std::string here = Child(pointer, key);
  if (std::find(kKeywords.begin(), kKeywords.end(), key) == kKeywords.end()) {
    return At(here, "keyword outside the subset that retort understands");
  }
  if (key == "type") return CheckTypeKeyword(value, pointer);
  if (key == "items") return CheckNode(value, here);
  if (key == "additionalProperties") {
    return value.is_bool() ? OkStatus() : CheckNode(value, here);
  }
  if (key == "properties") {
    if (!value.is_object()) return At(here, "must be an object");
    for (size_t i = 0; i < value.size(); ++i) {
      RETORT_RETURN_IF_ERROR(CheckNode(value.value_at(i), Child(here, value.key_at(i))));
    }
    return OkStatus();
  }
  if ((key == "minimum" || key == "maximum") && !value.is_number()) {
    return At(here, "must be a number");
  }
  if ((key == "required" || key == "enum") && !value.is_array())
    return At(here, "must be an array");
  if (key == "description" && !value.is_string()) return At(here, "must be a string");
  if (key == "x-retort" && value.StringOr("") != "file" && value.StringOr("") != "secret") {
    return At(here, "must be \"file\" or \"secret\"");
  }
  return OkStatus();
}

Status CheckNode(const Value& schema, const std::string& pointer) {
  if (!schema.is_object()) return At(pointer, "a schema must be an object");
  for (size_t i = 0; i < schema.size(); ++i) {
    RETORT_RETURN_IF_ERROR(CheckKeyword(schema.key_at(i), schema.value_at(i), pointer));
  }
  if (const Value fallback = schema["default"]) {
    Writer ignored;
    return Resolve(schema, fallback, pointer + "/default", &ignored);
  }
  return OkStatus();
}

void CollectMarked(const Value& schema, const Value& value, const std::string& pointer,
                   std::string_view mark, std::vector<MarkedValue>* out) {
  if (value.is_string() && schema["x-retort"].StringOr("") == mark) {
    out->push_back({pointer, std::string(value.StringOr(""))});
  }
  for (size_t i = 0; i < value.size(); ++i) {
    if (value.is_array()) {
      CollectMarked(schema["items"], value[i], Child(pointer, std::to_string(i)), mark, out);
      continue;
    }
    const std::string_view key = value.key_at(i);
    const Value property = schema["properties"][key];
    CollectMarked(property ? property : schema["additionalProperties"], value.value_at(i),
                  Child(pointer, key), mark, out);
  }
}

// Copies a value with the strings at the given pointers replaced. Depth is bounded by the parser.
void WriteReplaced(const Value& value, const std::string& pointer,
                   const std::vector<MarkedValue>& replacements, Writer* out) {
  if (value.is_object()) {
    out->BeginObject();
    for (size_t i = 0; i < value.size(); ++i) {
      out->Key(value.key_at(i));
      WriteReplaced(value.value_at(i), Child(pointer, value.key_at(i)), replacements, out);
    }
    out->EndObject();
  } else if (value.is_array()) {
    out->BeginArray();
    for (size_t i = 0; i < value.size(); ++i) {
      WriteReplaced(value[i], Child(pointer, std::to_string(i)), replacements, out);
    }
    out->EndArray();
  } else {
    const auto found = std::find_if(replacements.begin(), replacements.end(),
                                    [&](const MarkedValue& r) { return r.pointer == pointer; });
    if (found != replacements.end()) {
      out->String(found->value);
    } else {
      out->Copy(value);
    }
  }
}

Result<Document> ParseSchema(std::string_view text) {
  RETORT_ASSIGN_OR_RETURN(Document schema,
                          Document::Parse(text.empty() ? "{}" : text, "config schema"));
  if (Status s = CheckNode(schema.root(), ""); !s.ok()) return s.WithContext("config schema");
  return schema;
}

Result<Document> ParseConfig(std::string_view text) {
  return Document::Parse(text.empty() ? "{}" : text, "config");
}

}  // namespace

Result<std::string> ResolveConfig(const Value& schema, const Value& config) {
  if (!config.is_object()) return At("", "expected an object, found " + Shown(config));
  Writer out;
  RETORT_RETURN_IF_ERROR(Resolve(schema, config, "", &out));
  return out.Take();
}

Result<std::string> ResolveConfig(std::string_view schema_json, std::string_view config_json) {
  RETORT_ASSIGN_OR_RETURN(const Document schema, ParseSchema(schema_json));
  RETORT_ASSIGN_OR_RETURN(const Document config, ParseConfig(config_json));
  return ResolveConfig(schema.root(), config.root());
}

Status CheckSchema(std::string_view schema_json) { return ParseSchema(schema_json).status(); }

Result<std::vector<MarkedValue>> FindMarked(std::string_view schema_json,
                                            std::string_view config_json, std::string_view mark) {
  RETORT_ASSIGN_OR_RETURN(const Document schema, ParseSchema(schema_json));
  RETORT_ASSIGN_OR_RETURN(const Document config, ParseConfig(config_json));
  std::vector<MarkedValue> out;
  CollectMarked(schema.root(), config.root(), "", mark, &out);
  return out;
}

Result<std::string> ReplaceStrings(std::string_view config_json,
                                   const std::vector<MarkedValue>& replacements) {
  RETORT_ASSIGN_OR_RETURN(const Document config, ParseConfig(config_json));
  Writer out;
  WriteReplaced(config.root(), "", replacements, &out);
  return out.Take();
}

}  // namespace retort::json
