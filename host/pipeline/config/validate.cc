// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/config/validate.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>
#include <utility>

#include "core/io/filesystem.h"

namespace retort::host {
namespace {

std::vector<std::string> SplitChoices(const char* choices) {
  std::vector<std::string> out;
  std::istringstream stream(choices);
  for (std::string choice; std::getline(stream, choice, '|');) out.push_back(choice);
  return out;
}

std::string JoinNames(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) {
    if (name.empty()) continue;
    out += (out.empty() ? "" : ", ") + name;
  }
  return out;
}

std::string ShortNumber(double value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

class Validator {
 public:
  explicit Validator(ValidateContext* context) : context_(*context) {}

  void Object(Node& node, const ObjectSpec& spec, const std::string& path) {
    OpenShorthand(node, spec);
    if (node.type != json::Type::kObject) {
      const char* or_string = spec.shorthand != nullptr ? " or a string" : "";
      return Fail(node.where, path,
                  "must be an object" + std::string(or_string) + ", not " +
                      std::string(TypeName(node.type)));
    }
    if (spec.variant_key != nullptr) return Variant(node, spec, path);
    for (const Member& member : node.members) {
      if (spec.Find(member.key) == nullptr) UnknownKey(member, spec, path);
    }
    std::vector<Member> ordered;
    for (const KeySpec& key : spec.keys) Key(node, spec, key, path, &ordered);
    node.members = std::move(ordered);
  }

 private:
  void Fail(const Where& where, const std::string& path, const std::string& rule) {
    context_.errors.push_back(where.Text() + ": " + (path.empty() ? "" : path + ": ") + rule);
  }

  static std::string Sub(const std::string& path, std::string_view key) {
    return path.empty() ? std::string(key) : path + "." + std::string(key);
  }

  static void OpenShorthand(Node& node, const ObjectSpec& spec) {
    const char* key = nullptr;
    if (node.type == json::Type::kString) key = spec.shorthand;
    if (node.type == json::Type::kBool) key = spec.switch_key;
    if (key == nullptr) return;
    Node inner = std::exchange(node, Node{});
    node.type = json::Type::kObject;
    node.where = inner.where;
    node.Set(key, std::move(inner));
  }

  void UnknownKey(const Member& member, const ObjectSpec& spec, const std::string& path) {
    const std::string here = Sub(path, member.key);
    for (const char* reserved : spec.reserved) {
      if (member.key != reserved) continue;
      return Fail(member.key_where, here, "not supported by this version");
    }
    std::vector<std::string> known;
    for (const KeySpec& key : spec.keys) known.emplace_back(key.name);
    std::string message = "unknown key";
    const auto near = json::Nearest(member.key, known);
    const char* ours = OurNameOf(member.key);
    if (ours != nullptr && Reachable(ours, spec)) {
      message += "; here it is called " + std::string(ours);
    } else if (near) {
      message += "; did you mean '" + *near + "'?";
    }
    Fail(member.key_where, here, message + " (" + spec.title + " has: " + JoinNames(known) + ")");
  }

  // Whether the first part of one of our names is a key of this object.
  static bool Reachable(std::string_view ours, const ObjectSpec& spec) {
    const auto is_end = [](char c) { return c == '.' || c == ' '; };
    const auto end = std::find_if(ours.begin(), ours.end(), is_end);
    std::string_view first = ours.substr(0, static_cast<size_t>(end - ours.begin()));
    if (spec.Find(first) != nullptr) return true;
    const size_t dot = ours.find('.');
    if (dot == std::string_view::npos) return first == "weight";
    std::string_view last = ours.substr(dot + 1);
    last = last.substr(0, last.find(' '));
    return spec.Find(last) != nullptr;
  }

  void Variant(Node& node, const ObjectSpec& spec, const std::string& path) {
    std::vector<std::string> known;
    for (const VariantSpec& variant : spec.variants) known.emplace_back(variant.value);
    const Node* chosen = node.Find(spec.variant_key);
    if (chosen == nullptr || chosen->type != json::Type::kString) {
      return Fail(chosen != nullptr ? chosen->where : node.where, Sub(path, spec.variant_key),
                  "is needed: one of " + JoinNames(known));
    }
    for (const VariantSpec& variant : spec.variants) {
      if (chosen->text == variant.value) return Object(node, *variant.object, path);
    }
    for (const char* reserved : spec.reserved_variants) {
      if (chosen->text != reserved) continue;
      return Fail(chosen->where, Sub(path, spec.variant_key),
                  "'" + chosen->text +
                      "' is not supported by this version, which has: " + JoinNames(known));
    }
    std::string message = "'" + chosen->text + "' is not one of " + JoinNames(known);
    if (const auto near = json::Nearest(chosen->text, known)) {
      message += "; did you mean '" + *near + "'?";
    }
    Fail(chosen->where, Sub(path, spec.variant_key), message);
  }

  void Key(Node& node, const ObjectSpec& spec, const KeySpec& key, const std::string& path,
           std::vector<Member>* ordered) {
    const auto is_it = [&](const Member& member) { return member.key == key.name; };
    const auto found = std::find_if(node.members.begin(), node.members.end(), is_it);
    if (found != node.members.end()) {
      const bool null = found->value.type == json::Type::kNull;
      if (null && key.fallback == nullptr && !key.required) return;  // as if it weren't there
      if (null && key.fallback != nullptr)
        found->value = FromLiteral(key.fallback, found->value.where);
      Value(found->value, key, Sub(path, key.name));
      if (!null || key.fallback != nullptr) ordered->push_back(std::move(*found));
      return;
    }
    if (key.required) {
      return Fail(node.where, Sub(path, key.name),
                  "is needed by " + std::string(spec.title) + ": " + key.summary);
    }
    if (key.fallback == nullptr) return;
    Member member = {key.name, node.where, FromLiteral(key.fallback, node.where)};
    Value(member.value, key, Sub(path, key.name));
    ordered->push_back(std::move(member));
  }

  void Value(Node& node, const KeySpec& key, const std::string& path) {
    if (key.kind == KeyKind::kList) return List(node, key, path);
    if (key.kind == KeyKind::kMap) return Map(node, key, path);
    Single(node, key.kind, key, path);
  }

  void List(Node& node, const KeySpec& key, const std::string& path) {
    if (node.type != json::Type::kArray) {
      Node single = std::exchange(node, Node{});
      node.type = json::Type::kArray;
      node.where = single.where;
      node.items.push_back(std::move(single));
    }
    if (key.required && node.items.empty()) return Fail(node.where, path, "is an empty list");
    for (size_t i = 0; i < node.items.size(); ++i) {
      Single(node.items[i], key.item, key, path + "." + ElementName(node.items[i], i));
    }
  }

  // Elements that have a name are called by it, as --set does.
  static std::string ElementName(const Node& node, size_t index) {
    const Node* name = node.Find("name");
    const bool named = name != nullptr && name->type == json::Type::kString && !name->text.empty();
    return named ? name->text : std::to_string(index);
  }

  void Map(Node& node, const KeySpec& key, const std::string& path) {
    if (node.type != json::Type::kObject) {
      return Fail(node.where, path, "must be an object, not " + std::string(TypeName(node.type)));
    }
    for (Member& member : node.members) Single(member.value, key.item, key, Sub(path, member.key));
  }

  void Single(Node& node, KeyKind kind, const KeySpec& key, const std::string& path) {
    switch (kind) {
      case KeyKind::kObject: return Object(node, *key.object, path);
      case KeyKind::kBool: return Expect(node, json::Type::kBool, path);
      case KeyKind::kRaw: return Expect(node, json::Type::kObject, path);
      case KeyKind::kInt:
      case KeyKind::kNumber: return Number(node, kind, key, path);
      case KeyKind::kPath:
      case KeyKind::kString: return String(node, kind, key, path);
      case KeyKind::kList:
      case KeyKind::kMap: return;  // lists of lists don't occur in the tables
    }
  }

  void Expect(const Node& node, json::Type type, const std::string& path) {
    if (node.type == type) return;
    Fail(node.where, path,
         "must be " + std::string(TypeName(type)) + ", not " + std::string(TypeName(node.type)));
  }

  void Number(Node& node, KeyKind kind, const KeySpec& key, const std::string& path) {
    if (key.word != nullptr && node.type == json::Type::kString) {
      if (node.text == key.word) return;
      return Fail(node.where, path,
                  "must be a number or '" + std::string(key.word) + "', not '" + node.text + "'");
    }
    if (node.type != json::Type::kNumber) return Expect(node, json::Type::kNumber, path);
    double value = 0;
    const char* end = node.text.data() + node.text.size();
    const auto parsed = std::from_chars(node.text.data(), end, value);
    if (parsed.ec != std::errc() || !std::isfinite(value)) {
      return Fail(node.where, path, node.text + " is out of range");
    }
    if (kind == KeyKind::kInt) {
      int64_t whole = 0;
      const auto exact = std::from_chars(node.text.data(), end, whole);
      if (exact.ec != std::errc() || exact.ptr != end) {
        return Fail(node.where, path, "must be a whole number, not " + node.text);
      }
    }
    if (value < key.min) {
      return Fail(node.where, path, node.text + " is below " + ShortNumber(key.min));
    }
    if (value > key.max) {
      return Fail(node.where, path, node.text + " is above " + ShortNumber(key.max));
    }
  }

  void String(Node& node, KeyKind kind, const KeySpec& key, const std::string& path) {
    if (node.untyped) node.type = json::Type::kString;
    if (node.type != json::Type::kString) return Expect(node, json::Type::kString, path);
    if (key.required && node.text.empty()) return Fail(node.where, path, "is an empty string");
    if (kind == KeyKind::kPath) {
      if (node.text.empty()) return Fail(node.where, path, "is an empty path");
      const bool relative = node.where.in_file && node.text[0] != '/';
      node.text = io::Absolute(relative ? io::Join(context_.file_folder, node.text) : node.text);
    }
    if (key.choices == nullptr) return;
    const std::vector<std::string> choices = SplitChoices(key.choices);
    if (std::find(choices.begin(), choices.end(), node.text) != choices.end()) return;
    std::string message = "'" + node.text + "' is not one of " + JoinNames(choices);
    if (const auto near = json::Nearest(node.text, choices); near && !near->empty()) {
      message += "; did you mean '" + *near + "'?";
    }
    Fail(node.where, path, message);
  }

  ValidateContext& context_;
};

}  // namespace

void Validate(Node& node, const ObjectSpec& spec, const std::string& path,
              ValidateContext* context) {
  Validator(context).Object(node, spec, path);
}

}  // namespace retort::host
