// The inside of a Document: nodes in pre-order (a member's key is the string node just before its
// value), children of containers as index lists. Shared by document.cc, value.cc and writer.cc.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "core/json/json.h"

namespace retort::json {

struct Node {
  uint32_t pos = 0;    // byte offset of the value in the text
  uint32_t start = 0;  // strings, numbers: offset of the bytes; containers: first of `children`
  uint32_t count = 0;  // strings, numbers: length; containers: children (values, not keys)
  Type type = Type::kNull;
  bool in_pool = false;    // strings: `start` is in the pool (there was an escape)
  bool is_member = false;  // the node before is its key
  bool truth = false;
};

// Objects of more members have a sorted list of their children beside the one in file order.
inline constexpr uint32_t kLinearMembers = 8;

struct DocumentImpl {
  std::string text, what, pool;
  std::vector<Node> nodes;
  // Per container `count` node indices in file order; per big object `count` more, by key.
  std::vector<uint32_t> children;

  std::string_view Bytes(const Node& node) const {
    const std::string& from = node.in_pool ? pool : text;
    return std::string_view(from).substr(node.start, node.count);
  }
  std::string_view KeyOf(uint32_t value_node) const { return Bytes(nodes[value_node - 1]); }
  Position At(uint32_t offset) const;
};

}  // namespace retort::json
