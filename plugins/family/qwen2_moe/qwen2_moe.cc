// Qwen1.5-MoE and Qwen2-MoE: Qwen2 with experts in the place of MLPs, and beside them one that
// every token takes, weighed by a gate of its own. SPDX-License-Identifier: Apache-2.0
#include "retort/sdk/decoder.h"

namespace {

using retort::sdk::Decoder;
using retort::sdk::GraphBuilder;
using retort::sdk::JsonValue;

class Qwen2Moe {
 public:
  explicit Qwen2Moe(const retort::sdk::Config&) {}
  int Match(const JsonValue& config) {
    return config.String("model_type", "") == "qwen2_moe" ? 100 : 0;
  }
  void Build(const JsonValue& config, GraphBuilder& graph) {
    Decoder d = retort::sdk::ReadDecoder(config, {.kv_heads = 16});
    d.qkv_bias = config.Bool("qkv_bias", true);
    retort::sdk::ReadExperts(config, {.n_experts = 60, .top_k = 4, .hidden = 1408}, &d);
    retort::sdk::ReadSparseLayers(config, &d);
    d.experts.norm_top_k = config.Bool("norm_topk_prob", false);
    d.experts.shared = retort::sdk::internal::Size(config, "shared_expert_intermediate_size", 5632);
    if (config.Bool("use_sliding_window", false)) {  // of every other layer, up to the last such
      const int64_t end = config.Int("max_window_layers", 28);
      retort::sdk::ReadLayerWindows(
          config, retort::sdk::ReadWindow(config, 4096),
          [&](int64_t i) { return i % 2 == 0 && i < end; }, &d);
    }
    retort::sdk::BuildDecoder(graph, d);
  }
  std::string Describe(const JsonValue&) { return retort::sdk::DescribeDecoder(); }
};

RETORT_FAMILY("qwen2_moe", Qwen2Moe, "Qwen1.5 and Qwen2 with experts");

}  // namespace
