// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/config/overrides.h"

#include <charconv>
#include <cstdlib>
#include <map>
#include <optional>
#include <utility>

namespace retort::host {
namespace {

std::vector<std::string> SplitPath(std::string_view path) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t i = 0; i <= path.size(); ++i) {
    if (i < path.size() && path[i] != '.') continue;
    parts.emplace_back(path.substr(begin, i - begin));
    begin = i + 1;
  }
  return parts;
}

// A bare string that stands for an object, made into that object so that a key can be set in it.
void OpenShorthand(Node& node, const std::string& section) {
  const bool has_any = section == "models" || section == "data" || section == "stages";
  if (node.type != json::Type::kString || !has_any) return;
  const char* key = section == "models" || section == "data" ? "path" : "plugin";
  Node inner = std::exchange(node, Node{});
  node.type = json::Type::kObject;
  node.where = inner.where;
  node.Set(key, std::move(inner));
}

Result<Node*> StepIntoList(Node& list, const std::string& part, const std::string& so_far) {
  std::vector<std::string> names;
  for (Node& item : list.items) {
    const Node* name = item.Find("name");
    if (name == nullptr) name = item.Find("plugin");
    const std::string& id = name != nullptr ? name->text : item.text;
    if (id == part) return &item;
    if (!id.empty()) names.push_back(id);
  }
  size_t index = 0;
  const auto [end, failure] = std::from_chars(part.data(), part.data() + part.size(), index);
  if (failure == std::errc() && end == part.data() + part.size() && index < list.items.size()) {
    return &list.items[index];
  }
  std::string message = so_far + " has no element '" + part + "'";
  if (const auto near = json::Nearest(part, names)) message += "; did you mean '" + *near + "'?";
  message += " (" + std::to_string(list.items.size()) + " elements, by name or by index from 0)";
  return InvalidArgument(std::move(message));
}

}  // namespace

Status ApplyOverride(Node& root, std::string_view path, Node value) {
  const std::vector<std::string> parts = SplitPath(path);
  Node* node = &root;
  std::string so_far = "the pipeline";
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string& part = parts[i];
    const std::string at = value.where.Text() + ": ";
    if (part.empty()) return InvalidArgument(at + "'" + std::string(path) + "' has an empty part");
    if (node->type == json::Type::kNull) node->type = json::Type::kObject;
    if (i > 0) OpenShorthand(*node, parts[0]);
    if (node->type == json::Type::kArray) {
      RETORT_ASSIGN_OR_RETURN(node, StepIntoList(*node, part, at + so_far));
    } else if (node->type == json::Type::kObject) {
      Node* next = node->Find(part);
      if (next == nullptr) next = &node->Set(part, Node{.where = value.where});
      node = next;
    } else {
      return InvalidArgument(at + so_far + " is " + std::string(TypeName(node->type)) + ", so '" +
                             part + "' can't be set in it");
    }
    so_far = i == 0 ? part : so_far + "." + part;
  }
  *node = std::move(value);
  return OkStatus();
}

Status ApplyProfile(Node& root, const std::string& name) {
  const Node* profiles = root.Find("profiles");
  std::vector<std::string> names;
  if (profiles != nullptr) {
    for (const Member& member : profiles->members) names.push_back(member.key);
  }
  const Node* found = profiles != nullptr ? profiles->Find(name) : nullptr;
  if (found == nullptr) {
    std::string message = "--profile " + name + ": there is no such profile";
    if (const auto near = json::Nearest(name, names)) message += "; did you mean '" + *near + "'?";
    message += names.empty() ? " (the file has none)" : " (the file has:";
    for (const std::string& known : names) message += " " + known;
    return InvalidArgument(message + (names.empty() ? "" : ")"));
  }
  if (found->type != json::Type::kObject) {
    return InvalidArgument(found->where.Text() + ": profiles." + name +
                           " must be an object of \"path.of.key\": value, not " +
                           std::string(TypeName(found->type)));
  }
  const Node profile = *found;  // the tree changes under it
  for (const Member& member : profile.members) {
    RETORT_RETURN_IF_ERROR(ApplyOverride(root, member.key, member.value));
  }
  return OkStatus();
}

Status ApplySet(Node& root, const std::string& assignment) {
  const std::string source = "--set " + assignment;
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    return InvalidArgument(source + ": expected path.of.key=value");
  }
  const std::string text = assignment.substr(equals + 1);
  const Where where = {.source = source};
  Node value;
  if (json::Document::Parse(text, source).ok()) {
    value = FromLiteral(text, where);
    const bool scalar = value.type == json::Type::kNumber || value.type == json::Type::kBool;
    value.untyped = scalar;
  } else {
    value = MakeString(text, where);
  }
  return ApplyOverride(root, assignment.substr(0, equals), std::move(value));
}

namespace {

class Expander {
 public:
  Expander(const Node& root, std::vector<std::string>* errors) : errors_(errors) {
    if (const Node* vars = root.Find("vars")) vars_ = *vars;
    if (const Node* name = root.Find("name")) name_ = *name;
  }

  void Expand(Node& node) {
    if (node.type == json::Type::kString) return ExpandText(node);
    for (Node& item : node.items) Expand(item);
    for (Member& member : node.members) Expand(member.value);
  }

 private:
  void ExpandText(Node& node) {
    std::string out;
    const std::string text = node.text;
    for (size_t i = 0; i < text.size();) {
      if (text.compare(i, 3, "$${") == 0) {
        out += "${";
        i += 3;
        continue;
      }
      const size_t close = text.compare(i, 2, "${") == 0 ? text.find('}', i) : std::string::npos;
      if (close == std::string::npos) {
        out += text[i++];
        continue;
      }
      const std::optional<Node> value = Lookup(text.substr(i + 2, close - i - 2), node.where);
      if (!value) return;
      if (i == 0 && close + 1 == text.size()) {  // the whole string: keeps the variable's type
        Node whole = *value;
        whole.where = node.where;
        whole.where.in_file = value->where.in_file;  // a path of --set vars.x is the caller's
        node = std::move(whole);
        return;
      }
      out += value->text;
      i = close + 1;
    }
    node.text = std::move(out);
  }

  std::optional<Node> Lookup(const std::string& name, const Where& where) {
    if (name.starts_with("env.")) {
      const char* value = std::getenv(name.c_str() + 4);
      if (value != nullptr) return MakeString(value, where);
      return Fail(where, "the environment has no variable '" + name.substr(4) + "'");
    }
    const Node* found = vars_.Find(name);
    if (found == nullptr && name == "name" && (name_.type == json::Type::kString || name_.untyped))
      found = &name_;
    if (found == nullptr) return UnknownVariable(name, where);
    if (found->type == json::Type::kObject || found->type == json::Type::kArray) {
      return Fail(where, "vars." + name + " is " + std::string(TypeName(found->type)) +
                             "; a variable is a string, a number, true or false");
    }
    if (++depth_ > kMaxDepth) {
      --depth_;
      return Fail(where, "${" + name + "} refers to itself");
    }
    Node value = *found;
    const size_t errors_before = errors_->size();
    if (value.type == json::Type::kString) ExpandText(value);
    --depth_;
    if (errors_->size() != errors_before) return std::nullopt;
    return value;
  }

  std::optional<Node> UnknownVariable(const std::string& name, const Where& where) {
    std::vector<std::string> known = {"name"};
    for (const Member& member : vars_.members) known.push_back(member.key);
    std::string message = "${" + name + "} is not in vars";
    if (const auto near = json::Nearest(name, known)) message += "; did you mean '" + *near + "'?";
    return Fail(where, message + " (write $${ for a plain ${)");
  }

  std::optional<Node> Fail(const Where& where, const std::string& message) {
    errors_->push_back(where.Text() + ": " + message);
    return std::nullopt;
  }

  static constexpr int kMaxDepth = 8;
  Node vars_, name_;
  int depth_ = 0;
  std::vector<std::string>* errors_;
};

}  // namespace

void ExpandVariables(Node& root, std::vector<std::string>* errors) {
  Expander expander(root, errors);
  for (Member& member : root.members) {
    if (member.key == "vars" || member.key == "profiles") continue;
    expander.Expand(member.value);
  }
}

}  // namespace retort::host
