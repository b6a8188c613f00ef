// Values out of a tree that Validate has accepted: types are known to be right, so nothing here
// can fail. An absent key gives the fallback.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "host/pipeline/config/tree.h"

namespace retort::host {

inline std::string StringAt(const Node& node, std::string_view key) {
  const Node* found = node.Find(key);
  return found != nullptr ? found->text : "";
}

inline bool BoolAt(const Node& node, std::string_view key) {
  const Node* found = node.Find(key);
  return found != nullptr && found->text == "true";
}

inline int64_t IntAt(const Node& node, std::string_view key, int64_t fallback = 0) {
  const Node* found = node.Find(key);
  if (found == nullptr) return fallback;
  int64_t value = 0;
  std::from_chars(found->text.data(), found->text.data() + found->text.size(), value);
  return value;
}

inline double NumberAt(const Node& node, std::string_view key, double fallback = 0) {
  const Node* found = node.Find(key);
  if (found == nullptr) return fallback;
  double value = 0;
  std::from_chars(found->text.data(), found->text.data() + found->text.size(), value);
  return value;
}

inline std::string JsonAt(const Node& node, std::string_view key, std::string_view fallback) {
  const Node* found = node.Find(key);
  return found != nullptr ? found->Dump() : std::string(fallback);
}

inline std::vector<std::string> StringsAt(const Node& node, std::string_view key) {
  std::vector<std::string> out;
  if (const Node* found = node.Find(key)) {
    for (const Node& item : found->items) out.push_back(item.text);
  }
  return out;
}

}  // namespace retort::host
