// Qwen2 and Qwen2.5, dense: query, key and value projections have biases, the output has none.
// SPDX-License-Identifier: Apache-2.0
#include "retort/sdk/decoder.h"

namespace {

using retort::sdk::Decoder;
using retort::sdk::GraphBuilder;
using retort::sdk::JsonValue;

class Qwen2 {
 public:
  explicit Qwen2(const retort::sdk::Config&) {}
  int Match(const JsonValue& config) {
    return config.String("model_type", "") == "qwen2" ? 100 : 0;
  }
  void Build(const JsonValue& config, GraphBuilder& graph) {
    Decoder d = retort::sdk::ReadDecoder(config, {.kv_heads = 32});
    d.qkv_bias = true;
    retort::sdk::ReadQwenWindows(config, &d);
    retort::sdk::BuildDecoder(graph, d);
  }
  std::string Describe(const JsonValue&) { return retort::sdk::DescribeDecoder(); }
};

RETORT_FAMILY("qwen2", Qwen2, "Qwen2 and Qwen2.5 (dense)");

}  // namespace
