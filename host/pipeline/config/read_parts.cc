// What several kinds of stages have in common.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>
#include <utility>

#include "host/pipeline/config/builder.h"
#include "host/pipeline/config/read.h"

namespace retort::host {

PluginUse ConfigBuilder::ReadUse(const Node& node, const std::string& kind) {
  PluginUse use = {.plugin = WithoutKind(StringAt(node, "plugin"), kind),
                   .config = JsonAt(node, "config", "{}")};
  if (node.Find("isolate") != nullptr) use.isolate = BoolAt(node, "isolate");
  use.timeout_ms = IntAt(node, "timeout_ms");
  return use;
}

std::string ConfigBuilder::WithoutKind(std::string id, const std::string& kind) {
  if (id.starts_with(kind + "/")) id.erase(0, kind.size() + 1);
  return id;
}

void ConfigBuilder::NotePlugin(const std::string& kind, std::string id, StageConfig* stage) {
  const std::pair<std::string, std::string> plugin = {kind, WithoutKind(std::move(id), kind)};
  auto& all = stage->plugins;
  if (std::find(all.begin(), all.end(), plugin) == all.end()) all.push_back(plugin);
}

ChatOptions ConfigBuilder::ReadChat(const Node& node) {
  const Node* chat = node.Find("chat");
  return {.enabled = BoolAt(*chat, "enabled"), .system = StringAt(*chat, "system")};
}

std::vector<std::pair<int32_t, double>> ConfigBuilder::ReadLogitBias(const Node& sampling,
                                                                     const std::string& path) {
  std::vector<std::pair<int32_t, double>> biases;
  for (const auto& [key, where, value] : sampling.Find("logit_bias")->members) {
    int32_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc{} || end != key.data() + key.size() || id < 0) {
      Fail(value.where, path + "." + key, "keys are token ids: whole numbers from 0 on");
      continue;
    }
    double bias = 0;
    std::from_chars(value.text.data(), value.text.data() + value.text.size(), bias);
    biases.emplace_back(id, bias);
  }
  return biases;
}

DecodingOptions ConfigBuilder::ReadDecoding(const Node& node) {
  return {.max_batch = IntAt(node, "max_batch"),
          .kv_memory = IntAt(node, "kv_memory"),
          .prefill_chunk = IntAt(node, "prefill_chunk"),
          .kv_dtype = StringAt(node, "kv_dtype")};
}

SamplingOptions ConfigBuilder::ReadSampling(const Node& node, const std::string& path) {
  const Node& s = *node.Find("sampling");
  SamplingOptions out = {.temperature = NumberAt(s, "temperature"),
                         .top_p = NumberAt(s, "top_p"),
                         .top_k = IntAt(s, "top_k"),
                         .max_tokens = IntAt(s, "max_tokens"),
                         .min_tokens = IntAt(s, "min_tokens"),
                         .min_p = NumberAt(s, "min_p"),
                         .repetition_penalty = NumberAt(s, "repetition_penalty"),
                         .presence_penalty = NumberAt(s, "presence_penalty"),
                         .frequency_penalty = NumberAt(s, "frequency_penalty"),
                         .logit_bias = ReadLogitBias(s, path + ".sampling.logit_bias"),
                         .stop = StringsAt(s, "stop")};
  if (out.min_tokens > out.max_tokens) {
    Fail(s.where, path + ".sampling", "min_tokens is above max_tokens");
  }
  return out;
}

ChainConfig ConfigBuilder::ReadChain(const Node& node, const char* key, const std::string& path,
                                     const std::string& kind, StageConfig* stage) {
  const Node& list = *node.Find(key);
  ChainConfig chain = {.json = list.Dump(), .key_path = path + "." + key};
  for (size_t i = 0; i < list.items.size(); ++i) {
    const Node& entry = list.items[i];
    const std::string place = chain.key_path + "." + std::to_string(i);
    if (kind == "reward") {
      ReadReward(entry, place, &chain, stage);
    } else {
      NotePlugin(kind, StringAt(entry, "plugin"), stage);
    }
    const Node* rewards = entry.Find("rewards");
    for (size_t r = 0; rewards != nullptr && r < rewards->items.size(); ++r) {
      ReadReward(rewards->items[r], place + ".rewards." + std::to_string(r), &chain, stage);
    }
  }
  return chain;
}

// A plugin, or a model whose value head scores.
void ConfigBuilder::ReadReward(const Node& entry, const std::string& path, ChainConfig* chain,
                               StageConfig* stage) {
  const Node* model = entry.Find("model");
  if ((model == nullptr) == (entry.Find("plugin") == nullptr)) {
    return Fail(entry.where, path, "give \"plugin\" or \"model\", one of the two");
  }
  if (model == nullptr) {
    for (const char* key : {"at", "reduce"}) {
      const Node* of_model = entry.Find(key);
      if (of_model != nullptr)
        Fail(of_model->where, path + "." + key, "is of an entry with \"model\"");
    }
    return NotePlugin("reward", StringAt(entry, "plugin"), stage);
  }
  for (const char* key : {"config", "isolate", "timeout_ms"}) {
    const Node* of_plugin = entry.Find(key);
    const bool is_default =
        of_plugin != nullptr && std::string_view(key) == "config" && of_plugin->members.empty();
    if (of_plugin == nullptr || is_default) continue;
    Fail(of_plugin->where, path + "." + key, "is of a plugin; a model has none");
  }
  const Node* at = entry.Find("at");
  if (const Node* reduce = entry.Find("reduce"); reduce != nullptr) {
    if (at == nullptr || at->text != "steps") {
      Fail(reduce->where, path + ".reduce",
           "there is one score at the end; it needs \"at\": \"steps\"");
    }
  }
  const ModelRef ref = references_.Model(*model, path + ".model", stage);
  if (ref.model.blueprint) {
    Fail(model->where, path + ".model",
         "'" + ref.text + "' is a model from nothing; a reward needs one that was trained");
  }
  chain->models[ref.text] = ref;
}

}  // namespace retort::host
