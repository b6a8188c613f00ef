// SPDX-License-Identifier: Apache-2.0
#include "core/base/features.h"

#include <algorithm>
#include <cstdlib>

namespace retort {
namespace {

// Calls fn with every name in RETORT_DISABLE, until it returns true.
template <class Fn>
void EachDisabled(Fn&& fn) {
  const char* list = std::getenv("RETORT_DISABLE");
  std::string_view rest = list == nullptr ? "" : list;
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    if (fn(rest.substr(0, comma))) return;
    rest = comma == std::string_view::npos ? "" : rest.substr(comma + 1);
  }
}

}  // namespace

bool IsDisabled(std::string_view feature) {
  bool found = false;
  EachDisabled([&](std::string_view name) { return found = name == feature; });
  return found;
}

const std::vector<std::string>& FeatureNames() {
  static const std::vector<std::string> names = {"arena", "merge", "addnorm", "multitensor",
                                                 "blocked"};
  return names;
}

std::string UnknownDisabled() {
  const std::vector<std::string>& known = FeatureNames();
  std::string unknown;
  EachDisabled([&](std::string_view name) {
    if (!name.empty() && std::find(known.begin(), known.end(), name) == known.end()) unknown = name;
    return !unknown.empty();
  });
  return unknown;
}

}  // namespace retort
