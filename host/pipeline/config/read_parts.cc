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
  for (const Node& entry : list.items) {
    NotePlugin(kind, StringAt(entry, "plugin"), stage);
    if (const Node* rewards = entry.Find("rewards")) {
      for (const Node& reward : rewards->items) {
        NotePlugin("reward", StringAt(reward, "plugin"), stage);
      }
    }
  }
  return {.json = list.Dump(), .key_path = path + "." + key};
}

}  // namespace retort::host
