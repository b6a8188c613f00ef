// SPDX-License-Identifier: Apache-2.0
#include "core/train/param_groups.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <regex>

#include "core/engine/plan.h"
#include "core/json/json.h"

namespace retort::train {
namespace {

constexpr std::array<const char*, 5> kTransformersNoDecay = {
    "bias", "layernorm", "rmsnorm", R"((?:^|\.)norm(?:$|\.))", R"(_norm(?:$|\.))"};

// std::regex reports a bad pattern by throwing.
Result<std::regex> Compile(const std::string& pattern, const std::string& where) {
  try {
    return std::regex(pattern, std::regex::ECMAScript | std::regex::optimize);
  } catch (const std::regex_error& error) {
    return InvalidArgument(where + ": \"" + pattern +
                           "\" is not a regular expression: " + error.what());
  }
}

Result<std::vector<std::regex>> CompileAll(std::span<const std::string> patterns,
                                           const std::string& where) {
  std::vector<std::regex> regexes;
  for (const std::string& pattern : patterns) {
    RETORT_ASSIGN_OR_RETURN(std::regex regex, Compile(pattern, where));
    regexes.push_back(std::move(regex));
  }
  return regexes;
}

bool AnyMatches(std::span<const std::regex> regexes, const std::string& name) {
  return std::any_of(regexes.begin(), regexes.end(),
                     [&](const std::regex& regex) { return std::regex_search(name, regex); });
}

std::string LowerCase(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

// What a regex says beside its operators, to find names like it.
std::string Literal(const std::string& pattern) {
  std::string text;
  for (const char c : pattern) {
    if (std::string_view("^$\\*+?()[]{}|").find(c) == std::string_view::npos) text += c;
  }
  return text;
}

// The name with the most of the pattern's words between dots; of several the first.
std::string NearestName(const std::string& pattern, const std::vector<std::string>& names) {
  const std::string literal = Literal(pattern);
  std::vector<std::string> tails;  // the ends of names, which patterns often give alone
  for (const std::string& name : names) {
    const size_t from = name.size() > literal.size() ? name.size() - literal.size() : 0;
    tails.push_back(name.substr(from));
  }
  if (const auto whole = json::Nearest(literal, names)) return *whole;
  const auto tail = json::Nearest(literal, tails);
  if (!tail) return names.front();
  return names[static_cast<size_t>(std::find(tails.begin(), tails.end(), *tail) - tails.begin())];
}

Status MatchesNothing(const std::string& where, const std::string& pattern,
                      const std::vector<std::string>& names) {
  return InvalidArgument(
      where + ": \"" + pattern + "\" matches no param that could be trained" +
      (names.empty() ? std::string() : "; the nearest is " + NearestName(pattern, names)));
}

// Each pattern must match one of the names.
Status CheckUsed(std::span<const std::regex> regexes, std::span<const std::string> patterns,
                 const std::string& where, const std::vector<std::string>& names) {
  for (size_t i = 0; i < regexes.size(); ++i) {
    const bool used = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      return std::regex_search(name, regexes[i]);
    });
    if (!used) return MatchesNothing(where, patterns[i], names);
  }
  return OkStatus();
}

std::vector<std::string> TrainedNames(const graph::Graph& graph, int32_t adapter) {
  std::vector<std::string> names;
  for (const graph::Param& param : graph.params) {
    if (engine::IsTrained(param, adapter)) names.push_back(param.name);
  }
  return names;
}

Status CheckGroup(const engine::ParamGroup& group) {
  const std::string where = "param_groups \"" + group.pattern + "\": ";
  if (!std::isfinite(group.lr_scale) || group.lr_scale < 0) {
    return InvalidArgument(where + "lr_scale must be finite and at least 0");
  }
  if (group.weight_decay && (!std::isfinite(*group.weight_decay) || *group.weight_decay < 0)) {
    return InvalidArgument(where + "weight_decay must be finite and at least 0");
  }
  return OkStatus();
}

// The groups' numbers, before params are put into them.
Result<ParamGroups> DeclareGroups(const engine::TrainerOptions& options) {
  ParamGroups groups = {.of_param = {}, .lr_scale = {1, 1}, .weight_decay = {0, 0}};
  groups.weight_decay[kDecayGroup] = options.weight_decay;
  for (const engine::ParamGroup& group : options.groups) {
    RETORT_RETURN_IF_ERROR(CheckGroup(group));
    for (const uint32_t kind : {kDecayGroup, kNoDecayGroup}) {
      const double usual = groups.weight_decay[kind];
      groups.lr_scale.push_back(group.lr_scale);
      groups.weight_decay.push_back(group.weight_decay.value_or(usual));
    }
  }
  return groups;
}

}  // namespace

Result<ParamGroups> AssignGroups(const graph::Graph& graph, const engine::TrainerOptions& options) {
  std::vector<std::string> spared_patterns = options.no_decay, patterns;
  if (spared_patterns.empty()) {
    spared_patterns.assign(kTransformersNoDecay.begin(), kTransformersNoDecay.end());
  }
  for (const engine::ParamGroup& group : options.groups) patterns.push_back(group.pattern);
  RETORT_ASSIGN_OR_RETURN(const auto spared, CompileAll(spared_patterns, "no_decay"));
  RETORT_ASSIGN_OR_RETURN(const auto regexes, CompileAll(patterns, "param_groups"));
  RETORT_ASSIGN_OR_RETURN(ParamGroups groups, DeclareGroups(options));
  const std::vector<std::string> names = TrainedNames(graph, options.adapter);
  RETORT_RETURN_IF_ERROR(CheckUsed(regexes, patterns, "param_groups", names));
  for (const graph::Param& param : graph.params) {
    const bool spare =
        (param.flags & RETORT_PARAM_NO_DECAY) != 0 || AnyMatches(spared, LowerCase(param.name));
    uint32_t group = spare ? kNoDecayGroup : kDecayGroup;
    const auto own = std::find_if(regexes.begin(), regexes.end(), [&](const std::regex& regex) {
      return std::regex_search(param.name, regex);
    });
    if (own != regexes.end()) group += 2 * static_cast<uint32_t>(own - regexes.begin() + 1);
    groups.of_param.push_back(group);
  }
  return groups;
}

Status FreezeParams(graph::Graph& graph, std::span<const std::string> trainable,
                    std::span<const std::string> frozen) {
  if (trainable.empty() && frozen.empty()) return OkStatus();
  RETORT_ASSIGN_OR_RETURN(const auto wanted, CompileAll(trainable, "trainable"));
  RETORT_ASSIGN_OR_RETURN(const auto fixed, CompileAll(frozen, "frozen"));
  const int32_t adapter = graph.adapters.empty() ? -1 : 0;
  const std::vector<std::string> names = TrainedNames(graph, adapter);
  RETORT_RETURN_IF_ERROR(CheckUsed(wanted, trainable, "trainable", names));
  RETORT_RETURN_IF_ERROR(CheckUsed(fixed, frozen, "frozen", names));
  for (graph::Param& param : graph.params) {
    if (!engine::IsTrained(param, adapter)) continue;
    const bool kept = wanted.empty() || AnyMatches(wanted, param.name);
    if (!kept || AnyMatches(fixed, param.name)) param.flags |= RETORT_PARAM_FROZEN;
  }
  if (!TrainedNames(graph, adapter).empty()) return OkStatus();
  return InvalidArgument("trainable and frozen leave no param to train");
}

}  // namespace retort::train
