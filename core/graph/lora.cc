// SPDX-License-Identifier: Apache-2.0
#include "core/graph/lora.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <set>

#include "core/json/json.h"
#include "retort/abi/draft/optimizer.h"

namespace retort::graph {
namespace {

constexpr std::string_view kWeight = ".weight";

// Where a module's output rows are computed.
struct Use {
  size_t node = 0;
  int32_t param = -1;
  int64_t out_begin = 0, b_begin = 0, n_out = 0;
};

// A matrix of the checkpoint that linear nodes multiply by.
struct Module {
  std::string name;
  int64_t rows = 0, in = 0;
  std::vector<Use> uses = {};
  bool left_out = false;     // of all-linear: the head, or routes tokens to experts
  std::string refusal = {};  // why it can't have an adapter; "": it can
};

class Modules {
 public:
  explicit Modules(const Graph& graph) : graph_(graph) {
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
      if (graph.nodes[i].op == Op::kLinear) AddNode(i);
    }
    for (Module& module : list_) CheckRows(module);
  }
  const std::vector<Module>& list() const { return list_; }

 private:
  void AddNode(size_t i) {
    const int32_t index = graph_.nodes[i].params[0];
    const Param& param = graph_.params[static_cast<size_t>(index)];
    int64_t known = 0, n_unknown = 0;
    for (const Source& s : param.sources) {
      known += s.row_end - s.row_begin;
      n_unknown += s.row_end == 0 ? 1 : 0;
    }
    int64_t out = 0;
    for (const Source& s : param.sources) {
      const int64_t n = s.row_end == 0 ? param.shape[0] - known : s.row_end - s.row_begin;
      if (!s.checkpoint_name.ends_with(kWeight)) continue;
      Module& module = ModuleOf(s.checkpoint_name);
      module.in = param.shape[1];
      module.rows = std::max(module.rows, s.row_begin + n);
      module.left_out = module.left_out || index == graph_.head || IsRouter(graph_.nodes[i].out);
      module.uses.push_back(
          {.node = i, .param = index, .out_begin = out, .b_begin = s.row_begin, .n_out = n});
      if (s.transpose) module.refusal = "the checkpoint holds it transposed (fan_in_fan_out)";
      if (n_unknown > 1 || n <= 0) {
        module.refusal = "the graph doesn't say which rows of \"" + param.name + "\" it is";
      }
      out += n;
    }
  }

  // PEFT doesn't count it among the linear modules either.
  bool IsRouter(int32_t value) const {
    return std::any_of(graph_.nodes.begin(), graph_.nodes.end(), [&](const Node& node) {
      return node.op == Op::kMoe && node.in[1] == value;
    });
  }

  Module& ModuleOf(const std::string& tensor) {
    const std::string name = tensor.substr(0, tensor.size() - kWeight.size());
    for (Module& module : list_) {
      if (module.name == name) return module;
    }
    return list_.emplace_back(Module{.name = name});
  }

  // Nodes must compute every row of the module: an adapter's B has them all.
  static void CheckRows(Module& module) {
    if (!module.refusal.empty()) return;
    std::vector<Use> uses = module.uses;
    std::sort(uses.begin(), uses.end(),
              [](const Use& a, const Use& b) { return a.b_begin < b.b_begin; });
    int64_t covered = 0;
    for (const Use& use : uses) {
      if (use.b_begin > covered) break;
      covered = std::max(covered, use.b_begin + use.n_out);
    }
    if (covered != module.rows) module.refusal = "linear nodes compute only some of its rows";
  }

  const Graph& graph_;
  std::vector<Module> list_;
};

bool MatchesPattern(std::string_view text, std::string_view pattern) {
  size_t t = 0, p = 0, star = std::string_view::npos, mark = 0;
  while (t < text.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++t, ++p;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++, mark = t;
    } else if (star != std::string_view::npos) {
      p = star + 1, t = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool IsAllLinear(const LoraSpec& spec) {
  if (spec.targets.size() != 1) return false;
  std::string lower = spec.targets[0];
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return lower == kAllLinear;
}

std::string LastPart(const std::string& name) { return name.substr(name.rfind('.') + 1); }

Status NoSuchModule(const char* what, const std::string& target, const std::vector<Module>& all) {
  std::set<std::string> known;
  for (const Module& module : all) {
    known.insert(LastPart(module.name));
    known.insert(module.name);
  }
  const auto near = json::Nearest(target, {known.begin(), known.end()});
  std::string shorts;
  for (const std::string& name : known) {
    if (name.find('.') == std::string::npos) shorts += (shorts.empty() ? "" : ", ") + name;
  }
  return InvalidArgument(std::string(what) + " \"" + target + "\" matches no linear module" +
                         (near ? "; did you mean \"" + *near + "\"?" : "") + " (there are: " +
                         shorts + "; embeddings and the LM head can't have an adapter)");
}

Status CheckNumbers(const Graph& graph, const LoraSpec& spec) {
  const std::string where = "adapter \"" + spec.name + "\": ";
  const auto plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-';
  };
  if (spec.name.empty() || !std::all_of(spec.name.begin(), spec.name.end(), plain)) {
    return InvalidArgument(where + "a name has letters, digits, '_' and '-'");
  }
  if (FindAdapter(graph, spec.name) >= 0) {
    return InvalidArgument(where + "the model has an adapter of this name already");
  }
  constexpr int64_t kMaxRank = 1 << 16;
  const auto bad_rank = [](int64_t r) { return r < 1 || r > kMaxRank; };
  for (const auto& [key, r] : spec.rank_pattern) {
    if (bad_rank(r)) {
      return InvalidArgument(where + "rank_pattern \"" + key + "\" is " + std::to_string(r) +
                             "; a rank is 1 to " + std::to_string(kMaxRank));
    }
  }
  if (bad_rank(spec.r)) {
    return InvalidArgument(where + "r is " + std::to_string(spec.r) + "; a rank is 1 to " +
                           std::to_string(kMaxRank));
  }
  if (!(spec.dropout >= 0 && spec.dropout < 1)) {
    return InvalidArgument(where + "dropout is " + std::to_string(spec.dropout) +
                           "; it must be at least 0 and below 1");
  }
  const auto bad_alpha = [](const auto& entry) { return !std::isfinite(entry.second); };
  if (!std::isfinite(spec.alpha) ||
      std::any_of(spec.alpha_pattern.begin(), spec.alpha_pattern.end(), bad_alpha)) {
    return InvalidArgument(where + "alpha must be finite");
  }
  if (spec.targets.empty()) return InvalidArgument(where + "targets is an empty list");
  return OkStatus();
}

// The value of the longest key that matches; else the fallback.
template <class T>
T PatternValue(const std::map<std::string, T>& pattern, std::string_view module, T fallback) {
  const std::string* best = nullptr;
  for (const auto& [key, value] : pattern) {
    if (!MatchesTarget(module, key) || (best != nullptr && best->size() >= key.size())) continue;
    best = &key;
    fallback = value;
  }
  return fallback;
}

template <class T>
Status CheckPattern(const char* what, const std::map<std::string, T>& pattern,
                    const std::vector<const Module*>& chosen, const std::vector<Module>& all) {
  for (const auto& [key, value] : pattern) {
    const auto matches = [&k = key](const Module* m) { return MatchesTarget(m->name, k); };
    if (std::none_of(chosen.begin(), chosen.end(), matches)) return NoSuchModule(what, key, all);
  }
  return OkStatus();
}

Result<std::vector<const Module*>> Choose(const LoraSpec& spec, const std::vector<Module>& all) {
  std::vector<const Module*> chosen;
  const bool every = IsAllLinear(spec);
  std::vector<bool> hit(spec.targets.size(), false);
  for (const Module& module : all) {
    bool wanted = every && !module.left_out;
    for (size_t t = 0; !every && t < spec.targets.size(); ++t) {
      if (!MatchesTarget(module.name, spec.targets[t])) continue;
      hit[t] = true;
      wanted = true;
    }
    if (!wanted) continue;
    if (!module.refusal.empty()) {
      return Unimplemented("module " + module.name + " can't have an adapter: " + module.refusal);
    }
    chosen.push_back(&module);
  }
  for (size_t t = 0; !every && t < hit.size(); ++t) {
    if (!hit[t]) return NoSuchModule("target", spec.targets[t], all);
  }
  if (chosen.empty()) return InvalidArgument("the model has no linear module for an adapter");
  RETORT_RETURN_IF_ERROR(CheckPattern("rank_pattern", spec.rank_pattern, chosen, all));
  RETORT_RETURN_IF_ERROR(CheckPattern("alpha_pattern", spec.alpha_pattern, chosen, all));
  return chosen;
}

int32_t AddParam(Graph& graph, const Module& module, const LoraSpec& spec, const char* which,
                 std::vector<int64_t> shape) {
  Param param;
  param.name = module.name + ".lora_" + which + "." + spec.name + std::string(kWeight);
  param.sources.push_back({.checkpoint_name = param.name});
  param.roles = RETORT_ROLE_MATRIX;
  param.adapter = static_cast<int32_t>(graph.adapters.size()) - 1;
  const bool is_a = *which == 'A';
  param.init = is_a ? kInitUniform : RETORT_INIT_CONSTANT;
  param.init_value = is_a ? 1.0 / std::sqrt(static_cast<double>(shape[1])) : 0;
  param.shape = std::move(shape);
  graph.params.push_back(std::move(param));
  return static_cast<int32_t>(graph.params.size() - 1);
}

void AddModule(Graph& graph, const Module& module, const LoraSpec& spec) {
  const int64_t r = RankOf(spec, module.name);
  const double alpha = AlphaOf(spec, module.name);
  const auto rank = static_cast<double>(r);
  LoraPart part{.adapter = static_cast<int32_t>(graph.adapters.size()) - 1,
                .a = AddParam(graph, module, spec, "A", {r, module.in}),
                .b = AddParam(graph, module, spec, "B", {module.rows, r}),
                .scale = alpha / (spec.rslora ? std::sqrt(rank) : rank),
                .dropout = spec.dropout};
  for (const Use& use : module.uses) {
    part.out_begin = use.out_begin;
    part.b_begin = use.b_begin;
    part.n_out = use.n_out;
    graph.nodes[use.node].lora.push_back(part);
  }
}

}  // namespace

int64_t RankOf(const LoraSpec& spec, std::string_view module) {
  return PatternValue(spec.rank_pattern, module, spec.r);
}

double AlphaOf(const LoraSpec& spec, std::string_view module) {
  return PatternValue(spec.alpha_pattern, module, spec.alpha);
}

bool MatchesTarget(std::string_view module, std::string_view target) {
  for (size_t begin = 0;; ++begin) {
    if (MatchesPattern(module.substr(begin), target)) return true;
    begin = module.find('.', begin);
    if (begin == std::string_view::npos) return false;
  }
}

Status AddLora(Graph& graph, const LoraSpec& spec) {
  RETORT_RETURN_IF_ERROR(CheckNumbers(graph, spec));
  const Modules modules(graph);
  RETORT_ASSIGN_OR_RETURN(const std::vector<const Module*> chosen, Choose(spec, modules.list()));
  graph.adapters.push_back(spec.name);
  for (const Module* module : chosen) AddModule(graph, *module, spec);
  return OkStatus();
}

std::vector<std::string> LinearModules(const Graph& graph) {
  std::vector<std::string> names;
  const Modules modules(graph);
  for (const Module& module : modules.list()) names.push_back(module.name);
  return names;
}

std::string ModuleOf(const Graph& graph, const Param& param) {
  const std::string& name = graph.adapters[static_cast<size_t>(param.adapter)];
  const size_t tail = std::string_view(".lora_A.").size() + name.size() + kWeight.size();
  return param.name.substr(0, param.name.size() - tail);
}

int32_t FindAdapter(const Graph& graph, std::string_view name) {
  const auto found = std::find(graph.adapters.begin(), graph.adapters.end(), name);
  return found == graph.adapters.end() ? -1 : static_cast<int32_t>(found - graph.adapters.begin());
}

int64_t LoraWidth(const Graph& graph, const Node& node, int32_t adapter) {
  int64_t width = 0;
  for (const LoraPart& part : node.lora) {
    if (part.adapter == adapter) width += graph.params[static_cast<size_t>(part.a)].shape[0];
  }
  return width;
}

int64_t LoraWidth(const Graph& graph, const Node& node) {
  int64_t widest = 0;
  for (const LoraPart& part : node.lora) {
    widest = std::max(widest, LoraWidth(graph, node, part.adapter));
  }
  return widest;
}

}  // namespace retort::graph
