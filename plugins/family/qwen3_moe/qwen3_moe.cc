// Qwen3-MoE: Qwen3 with experts in the place of MLPs.
// SPDX-License-Identifier: Apache-2.0
#include "retort/sdk/decoder.h"

namespace {

using retort::sdk::Decoder;
using retort::sdk::GraphBuilder;
using retort::sdk::JsonValue;

class Qwen3Moe {
 public:
  explicit Qwen3Moe(const retort::sdk::Config&) {}
  int Match(const JsonValue& config) {
    return config.String("model_type", "") == "qwen3_moe" ? 100 : 0;
  }
  void Build(const JsonValue& config, GraphBuilder& graph) {
    Decoder d = retort::sdk::ReadDecoder(config, {.kv_heads = 4});
    d.head_norm = true;
    d.qkv_bias = d.out_bias = config.Bool("attention_bias", false);
    retort::sdk::ReadExperts(config,
                             {.count = {"num_experts", "num_local_experts"},
                              .n_experts = 128,
                              .top_k = 8,
                              .hidden = 768},
                             &d);
    retort::sdk::ReadSparseLayers(config, &d);
    d.experts.norm_top_k = config.Bool("norm_topk_prob", false);
    if (config.Bool("use_sliding_window", false)) {
      d.windows.assign(d.windows.size(), retort::sdk::ReadWindow(config, 4096));
    }
    retort::sdk::BuildDecoder(graph, d);
  }
  std::string Describe(const JsonValue&) { return retort::sdk::DescribeExpertDecoder(); }
};

RETORT_FAMILY("qwen3_moe", Qwen3Moe, "Qwen3 with experts");

}  // namespace
