// Names in an adapter folder: of its files, and of its tensors; and how its weights are opened.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/graph/graph.h"
#include "core/graph/lora.h"
#include "core/graph/value_head.h"
#include "core/io/safetensors.h"

namespace retort::model {

inline constexpr const char* kPeftConfigName = "adapter_config.json";
inline constexpr const char* kPeftWeightsName = "adapter_model.safetensors";
inline constexpr std::string_view kPeftPrefix = "base_model.model.";
inline constexpr std::string_view kLoraA = ".lora_A.weight", kLoraB = ".lora_B.weight";

Result<io::Safetensors> OpenPeftWeights(const std::string& folder);

// Of the value head, as peft names a module that is saved whole.
inline std::string PeftHeadName() {
  return std::string(kPeftPrefix) + std::string(graph::kValueHeadName);
}

struct PeftName {
  std::string module;
  bool is_a = false;
};

inline std::string PeftTensorName(std::string_view module, bool is_a) {
  return std::string(kPeftPrefix) + std::string(module) + std::string(is_a ? kLoraA : kLoraB);
}

inline std::optional<PeftName> ParsePeftName(std::string_view name) {
  const bool is_a = name.ends_with(kLoraA);
  if (!name.starts_with(kPeftPrefix) || !(is_a || name.ends_with(kLoraB))) return std::nullopt;
  name.remove_prefix(kPeftPrefix.size());
  if (name.size() <= kLoraA.size()) return std::nullopt;
  name.remove_suffix(kLoraA.size());
  return PeftName{.module = std::string(name), .is_a = is_a};
}

// Of an adapter's param.
inline bool IsLoraA(const graph::Param& param) { return param.init == graph::kInitUniform; }
inline std::string PeftNameOf(const graph::Graph& graph, const graph::Param& param) {
  if (graph::IsValueHead(param)) return PeftHeadName();
  return PeftTensorName(graph::ModuleOf(graph, param), IsLoraA(param));
}

}  // namespace retort::model
