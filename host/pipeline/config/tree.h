// The pipeline file as a tree that can be changed: overrides, variables and defaults go in before
// anything is read out. Every node knows where it came from, so that errors can say so.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/json/json.h"

namespace retort::host {

struct Where {
  std::string source = {};       // the file as named by the user, or "--set a.b=c"
  int64_t line = 0, column = 0;  // 0: the source has none
  bool in_file = false;  // relative paths are relative to the file, else to the current folder

  std::string Text() const;  // "pipe.json:3:7" or "--set a.b=c"
};

struct Member;

struct Node {
  json::Type type = json::Type::kNull;
  std::string text = {};             // of a string; a number as written; "true" or "false"
  std::vector<Node> items = {};      // of an array
  std::vector<Member> members = {};  // of an object, in file order
  Where where = {};
  bool untyped = false;  // a scalar of --set: may also be read as a string

  Node* Find(std::string_view key);
  const Node* Find(std::string_view key) const;
  Node& Set(std::string_view key, Node value);  // adds or replaces

  // Compact JSON; with `sorted` members in order of name: the same content, the same text.
  void Write(json::Writer& writer, bool sorted) const;
  std::string Dump(bool sorted = false) const;
};

struct Member {
  std::string key = {};
  Where key_where = {};
  Node value;
};

Node MakeString(std::string text, Where where);
// "a string", "an object" …: of what a node is, for errors.
std::string_view TypeName(json::Type type);

// A copy of `value` whose nodes point into `file`.
Node FromJson(const json::Value& value, const std::string& file);
// JSON text written by the program itself (a default); asserts that it parses.
Node FromLiteral(std::string_view json, const Where& where);

}  // namespace retort::host
