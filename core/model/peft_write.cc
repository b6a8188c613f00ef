// Writing adapter folders.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <set>

#include "core/io/safetensors.h"
#include "core/json/json.h"
#include "core/model/peft.h"
#include "core/model/peft_names.h"

namespace retort::model {
namespace {

std::string LastPart(const std::string& module) { return module.substr(module.rfind('.') + 1); }

// Modules that the adapter has weights of, in graph order.
std::vector<std::string> AdaptedModules(const graph::Graph& graph, int32_t adapter) {
  std::vector<std::string> modules;
  for (const graph::Param& param : graph.params) {
    if (param.adapter == adapter && IsLoraA(param)) {
      modules.push_back(graph::ModuleOf(graph, param));
    }
  }
  return modules;
}

// Last parts of names where those say the same ("q_proj"), else full names.
std::vector<std::string> TargetNames(const graph::Graph& graph,
                                     const std::vector<std::string>& modules) {
  const std::set<std::string> chosen(modules.begin(), modules.end());
  std::set<std::string> parts;
  for (const std::string& module : modules) parts.insert(LastPart(module));
  for (const std::string& module : graph::LinearModules(graph)) {
    if (parts.contains(LastPart(module)) && !chosen.contains(module)) return modules;
  }
  return {parts.begin(), parts.end()};
}

// Whole numbers as such: PEFT writes r and lora_alpha as integers.
void WriteNumber(json::Writer& writer, std::string_view key, double value) {
  constexpr double kExact = 1e15;
  if (value == std::floor(value) && std::abs(value) < kExact) {
    writer.Field(key, static_cast<int64_t>(value));
  } else {
    writer.Field(key, value);
  }
}

std::string ConfigText(const graph::Graph& graph, const std::vector<std::string>& modules,
                       const graph::LoraSpec& spec, const std::string& base) {
  json::Writer w(2);
  const auto null = [&w](const char* key) { w.Key(key).Null(); };
  w.BeginObject().Key("alpha_pattern").BeginObject();
  for (const std::string& module : modules) {
    const double alpha = graph::AlphaOf(spec, module);
    if (alpha != spec.alpha) WriteNumber(w, module, alpha);
  }
  w.EndObject();
  null("auto_mapping");
  w.Field("base_model_name_or_path", base).Field("bias", "none").Field("fan_in_fan_out", false);
  w.Field("inference_mode", true).Field("init_lora_weights", true);
  null("layer_replication"), null("layers_pattern"), null("layers_to_transform");
  WriteNumber(w, "lora_alpha", spec.alpha);
  w.Field("lora_dropout", spec.dropout);
  w.Key("modules_to_save");
  if (graph.has_lm_head) {
    w.Null();  // a value head beside an LM head is no module that transformers knows
  } else {
    w.BeginArray().String("classifier").String("score").EndArray();  // as peft writes it
  }
  w.Field("peft_type", "LORA").Field("r", spec.r).Key("rank_pattern").BeginObject();
  for (const std::string& module : modules) {
    const int64_t r = graph::RankOf(spec, module);
    if (r != spec.r) w.Field(module, r);
  }
  w.EndObject();
  null("revision");
  w.Key("target_modules").BeginArray();
  for (const std::string& target : TargetNames(graph, modules)) w.String(target);
  w.EndArray()
      .Field("task_type", graph.has_lm_head ? "CAUSAL_LM" : "SEQ_CLS")
      .Field("use_dora", false);
  return w.Field("use_rslora", spec.rslora).EndObject().Take() + "\n";
}

}  // namespace

Result<std::vector<io::FileDigest>> WriteAdapterFolder(
    io::FileSystem& fs, const std::string& folder, const ModelTexts& texts, const std::string& base,
    const graph::Graph& graph, int32_t adapter, const graph::LoraSpec& spec,
    std::span<const TensorView> params) {
  if (params.size() != graph.params.size()) {
    return Internal(folder + ": the weights are of another graph");
  }
  std::vector<io::SafetensorsItem> items;
  for (size_t p = 0; p < params.size(); ++p) {
    if (graph.params[p].adapter != adapter) continue;
    items.push_back({.name = PeftNameOf(graph, graph.params[p]), .view = params[p]});
  }
  RETORT_RETURN_IF_ERROR(fs.MakeFolders(folder));
  std::vector<io::FileDigest> digests;
  const auto write_text = [&](const char* name, const std::string& text) -> Status {
    if (text.empty()) return OkStatus();
    RETORT_ASSIGN_OR_RETURN(io::FileDigest digest,
                            io::DurableWrite(fs, io::Join(folder, name), text));
    digests.push_back(std::move(digest));
    return OkStatus();
  };
  const std::string config = ConfigText(graph, AdaptedModules(graph, adapter), spec, base);
  RETORT_RETURN_IF_ERROR(write_text(kPeftConfigName, config));
  RETORT_RETURN_IF_ERROR(write_text("tokenizer.json", texts.tokenizer_json));
  RETORT_RETURN_IF_ERROR(write_text("tokenizer_config.json", texts.tokenizer_config_json));
  RETORT_RETURN_IF_ERROR(write_text("chat_template.jinja", texts.chat_template));
  RETORT_ASSIGN_OR_RETURN(
      io::FileDigest weights,
      io::WriteSafetensors(fs, io::Join(folder, kPeftWeightsName), std::move(items)));
  digests.push_back(std::move(weights));
  return digests;
}

}  // namespace retort::model
