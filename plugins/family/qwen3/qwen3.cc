// Qwen3, dense: query and key heads are normed before the rotary positions.
// SPDX-License-Identifier: Apache-2.0
#include "retort/sdk/decoder.h"

namespace {

using retort::sdk::Decoder;
using retort::sdk::GraphBuilder;
using retort::sdk::JsonValue;

// [family.begin]
class Qwen3 {
 public:
  explicit Qwen3(const retort::sdk::Config&) {}
  int Match(const JsonValue& config) {
    return config.String("model_type", "") == "qwen3" ? 100 : 0;
  }
  void Build(const JsonValue& config, GraphBuilder& graph) {
    Decoder d = retort::sdk::ReadDecoder(config, {.kv_heads = 32, .head_dim = 128});
    d.head_norm = true;
    d.qkv_bias = d.out_bias = config.Bool("attention_bias", false);
    retort::sdk::ReadQwenWindows(config, &d);
    retort::sdk::BuildDecoder(graph, d);
  }
  std::string Describe(const JsonValue&) { return retort::sdk::DescribeDecoder(); }
};

RETORT_FAMILY("qwen3", Qwen3, "Qwen3 (dense)");
// [family.end]

}  // namespace
