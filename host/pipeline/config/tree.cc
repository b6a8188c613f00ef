// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/config/tree.h"

#include <algorithm>
#include <utility>

namespace retort::host {

std::string Where::Text() const {
  if (line == 0) return source;
  return source + ":" + std::to_string(line) + ":" + std::to_string(column);
}

Node* Node::Find(std::string_view key) { return const_cast<Node*>(std::as_const(*this).Find(key)); }

const Node* Node::Find(std::string_view key) const {
  for (const Member& member : members) {
    if (member.key == key) return &member.value;
  }
  return nullptr;
}

Node& Node::Set(std::string_view key, Node value) {
  if (Node* old = Find(key)) return *old = std::move(value);
  Where key_where = value.where;
  members.push_back({std::string(key), std::move(key_where), std::move(value)});
  return members.back().value;
}

void Node::Write(json::Writer& writer, bool sorted) const {
  switch (type) {
    case json::Type::kNull: writer.Null(); return;
    case json::Type::kBool: writer.Bool(text == "true"); return;
    case json::Type::kNumber: writer.Raw(text); return;
    case json::Type::kString: writer.String(text); return;
    case json::Type::kArray:
      writer.BeginArray();
      for (const Node& item : items) item.Write(writer, sorted);
      writer.EndArray();
      return;
    case json::Type::kObject: break;
  }
  std::vector<const Member*> order;
  for (const Member& member : members) order.push_back(&member);
  const auto by_key = [](const Member* a, const Member* b) { return a->key < b->key; };
  if (sorted) std::sort(order.begin(), order.end(), by_key);
  writer.BeginObject();
  for (const Member* member : order) {
    writer.Key(member->key);
    member->value.Write(writer, sorted);
  }
  writer.EndObject();
}

std::string Node::Dump(bool sorted) const {
  json::Writer writer;
  Write(writer, sorted);
  return writer.Take();
}

Node MakeString(std::string text, Where where) {
  Node node;
  node.type = json::Type::kString;
  node.text = std::move(text);
  node.where = std::move(where);
  return node;
}

std::string_view TypeName(json::Type type) {
  switch (type) {
    case json::Type::kNull: return "null";
    case json::Type::kBool: return "true or false";
    case json::Type::kNumber: return "a number";
    case json::Type::kString: return "a string";
    case json::Type::kArray: return "a list";
    case json::Type::kObject: return "an object";
  }
  return "nothing";
}

namespace {

Where At(const json::Position& position, const std::string& file) {
  return {.source = file, .line = position.line, .column = position.column, .in_file = true};
}

}  // namespace

Node FromJson(const json::Value& value, const std::string& file) {
  Node node;
  node.type = value.type();
  node.where = At(value.position(), file);
  switch (node.type) {
    case json::Type::kNull: break;
    case json::Type::kBool: node.text = value.BoolOr(false) ? "true" : "false"; break;
    case json::Type::kNumber: node.text = value.number_text(); break;
    case json::Type::kString: node.text = value.StringOr(""); break;
    case json::Type::kArray:
      for (size_t i = 0; i < value.size(); ++i) node.items.push_back(FromJson(value[i], file));
      break;
    case json::Type::kObject:
      for (size_t i = 0; i < value.size(); ++i) {
        const json::Value member = value.value_at(i);
        node.members.push_back({std::string(value.key_at(i)), At(member.key_position(), file),
                                FromJson(member, file)});
      }
      break;
  }
  return node;
}

namespace {

void SetWhere(Node& node, const Where& where) {
  node.where = where;
  for (Node& item : node.items) SetWhere(item, where);
  for (Member& member : node.members) {
    member.key_where = where;
    SetWhere(member.value, where);
  }
}

}  // namespace

Node FromLiteral(std::string_view json, const Where& where) {
  Result<json::Document> document = json::Document::Parse(json, "default");
  Node node = FromJson(document.value().root(), where.source);
  SetWhere(node, where);
  return node;
}

}  // namespace retort::host
