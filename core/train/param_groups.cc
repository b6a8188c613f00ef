// SPDX-License-Identifier: Apache-2.0
#include "core/train/param_groups.h"

#include <algorithm>
#include <array>
#include <regex>

#include "core/engine/edge.h"

namespace retort::train {
namespace {

constexpr std::array<const char*, 5> kTransformersNoDecay = {
    "bias", "layernorm", "rmsnorm", R"((?:^|\.)norm(?:$|\.))", R"(_norm(?:$|\.))"};

// std::regex reports a bad pattern by throwing.
Result<std::regex> Compile(const std::string& pattern) {
  auto made = engine::Guarded("compiling", [&]() -> Result<std::regex> {
    return std::regex(pattern, std::regex::ECMAScript | std::regex::optimize);
  });
  if (made.ok()) return made;
  return InvalidArgument("no_decay: \"" + pattern +
                         "\" is not a regular expression: " + made.status().message());
}

std::string LowerCase(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

}  // namespace

Result<std::vector<uint32_t>> AssignGroups(const graph::Graph& graph,
                                           std::span<const std::string> no_decay) {
  std::vector<std::string> patterns(no_decay.begin(), no_decay.end());
  if (patterns.empty()) patterns.assign(kTransformersNoDecay.begin(), kTransformersNoDecay.end());
  std::vector<std::regex> regexes;
  for (const std::string& pattern : patterns) {
    RETORT_ASSIGN_OR_RETURN(std::regex regex, Compile(pattern));
    regexes.push_back(std::move(regex));
  }
  std::vector<uint32_t> groups;
  for (const graph::Param& param : graph.params) {
    const std::string name = LowerCase(param.name);
    const bool spared = (param.flags & RETORT_PARAM_NO_DECAY) != 0 ||
                        std::any_of(regexes.begin(), regexes.end(), [&](const std::regex& regex) {
                          return std::regex_search(name, regex);
                        });
    groups.push_back(spared ? kNoDecayGroup : kDecayGroup);
  }
  return groups;
}

}  // namespace retort::train
