// OLMo 2: norms stand after attention and MLP instead of before them, and query and key are normed
// over their whole width before the rotary positions.
// SPDX-License-Identifier: Apache-2.0
#include "retort/sdk/decoder.h"

namespace {

using retort::sdk::Decoder;
using retort::sdk::GraphBuilder;
using retort::sdk::JsonValue;

class Olmo2 {
 public:
  explicit Olmo2(const retort::sdk::Config&) {}
  int Match(const JsonValue& config) {
    return config.String("model_type", "") == "olmo2" ? 100 : 0;
  }
  void Build(const JsonValue& config, GraphBuilder& graph) {
    Decoder d = retort::sdk::ReadDecoder(config, {.eps = 1e-5});
    d.qkv_bias = d.out_bias = config.Bool("attention_bias", false);
    d.wide_norm = true;
    d.norms = {.before_attention = "",
               .after_attention = "post_attention_layernorm",
               .before_mlp = "",
               .after_mlp = "post_feedforward_layernorm"};
    retort::sdk::BuildDecoder(graph, d);
  }
  std::string Describe(const JsonValue&) { return retort::sdk::DescribeDecoder(); }
};

RETORT_FAMILY("olmo2", Olmo2, "OLMo 2 (dense)");

}  // namespace
