// Llama and the models that share its config.json: SmolLM2, TinyLlama, Yi and so on.
// SPDX-License-Identifier: Apache-2.0
#include "retort/sdk/decoder.h"

namespace {

using retort::sdk::Decoder;
using retort::sdk::GraphBuilder;
using retort::sdk::JsonValue;

class Llama {
 public:
  explicit Llama(const retort::sdk::Config&) {}
  int Match(const JsonValue& config) {
    return config.String("model_type", "") == "llama" ? 100 : 0;
  }
  void Build(const JsonValue& config, GraphBuilder& graph) {
    Decoder d = retort::sdk::ReadDecoder(config);
    d.qkv_bias = d.out_bias = config.Bool("attention_bias", false);
    d.mlp_bias = config.Bool("mlp_bias", false);
    retort::sdk::BuildDecoder(graph, d);
  }
  std::string Describe(const JsonValue&) { return retort::sdk::DescribeDecoder(); }
};

RETORT_FAMILY("llama", Llama, "Llama 2 and 3, and models of the same shape (SmolLM2, TinyLlama)");

}  // namespace
