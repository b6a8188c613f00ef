// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/config/lora.h"

#include "host/pipeline/config/read.h"

namespace retort::host {
namespace {

using enum KeyKind;

const ObjectSpec& LoraObject() {
  static const ObjectSpec spec = {
      .title = "an adapter",
      .keys = {{.name = "r",
                .kind = kInt,
                .fallback = "16",
                .summary = "rank of the adapter's matrices",
                .min = 1,
                .max = 65536},
               {.name = "alpha",
                .kind = kNumber,
                .fallback = "32",
                .summary = "scale: alpha / r times the low-rank part is added"},
               {.name = "dropout",
                .kind = kNumber,
                .fallback = "0",
                .summary = "share of the adapter's inputs that a step leaves out",
                .min = 0,
                .max = 0.999},
               {.name = "targets",
                .kind = kList,
                .fallback = "[\"all-linear\"]",
                .summary = "names of modules, ends of names, patterns with * and ?, or all-linear"},
               {.name = "use_rslora",
                .kind = kBool,
                .fallback = "false",
                .summary = "scale by alpha / sqrt(r)"},
               {.name = "rank_pattern",
                .kind = kMap,
                .fallback = "{}",
                .summary = "module -> its own r",
                .min = 1,
                .max = 65536,
                .item = kInt},
               {.name = "alpha_pattern",
                .kind = kMap,
                .fallback = "{}",
                .summary = "module -> its own alpha",
                .item = kNumber}},
      .reserved = {"use_dora", "bias", "modules_to_save", "init_lora_weights", "exclude_modules",
                   "layers_to_transform"}};
  return spec;
}

}  // namespace

KeySpec LoraKey() {
  return {.name = "lora",
          .kind = kObject,
          .summary = "trains an adapter beside the frozen model; the stage gives a PEFT folder",
          .object = &LoraObject()};
}

graph::LoraSpec ReadLora(const Node& node) {
  graph::LoraSpec spec = {.r = IntAt(node, "r"),
                          .alpha = NumberAt(node, "alpha"),
                          .dropout = NumberAt(node, "dropout"),
                          .rslora = BoolAt(node, "use_rslora"),
                          .targets = StringsAt(node, "targets")};
  const Node& ranks = *node.Find("rank_pattern");
  for (const Member& member : ranks.members)
    spec.rank_pattern[member.key] = IntAt(ranks, member.key);
  const Node& alphas = *node.Find("alpha_pattern");
  for (const Member& member : alphas.members) {
    spec.alpha_pattern[member.key] = NumberAt(alphas, member.key);
  }
  return spec;
}

void FillLoraDefaults(Node& root) {
  constexpr const char* kLearningRate = "1e-4";
  Node* stages = root.Find("stages");
  if (stages == nullptr) return;
  for (Node& stage : stages->items) {
    const Node* lora = stage.Find("lora");
    if (lora == nullptr || lora->type == json::Type::kNull) continue;
    if (stage.Find("learning_rate") == nullptr) {
      stage.Set("learning_rate", FromLiteral(kLearningRate, stage.where));
    }
  }
}

}  // namespace retort::host
