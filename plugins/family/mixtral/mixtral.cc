// Mixtral: Mistral's block with experts in every layer; a token's weights add up to 1.
// SPDX-License-Identifier: Apache-2.0
#include "retort/sdk/decoder.h"

namespace {

using retort::sdk::Decoder;
using retort::sdk::GraphBuilder;
using retort::sdk::JsonValue;

// [family.begin]
class Mixtral {
 public:
  explicit Mixtral(const retort::sdk::Config&) {}
  int Match(const JsonValue& config) {
    return config.String("model_type", "") == "mixtral" ? 100 : 0;
  }
  void Build(const JsonValue& config, GraphBuilder& graph) {
    Decoder d = retort::sdk::ReadDecoder(config, {.kv_heads = 8, .eps = 1e-5, .rope_theta = 1e6});
    d.windows.assign(d.windows.size(), retort::sdk::ReadWindow(config, 0));
    retort::sdk::ReadExperts(config,
                             {.count = {"num_local_experts", "num_experts"},
                              .width = "intermediate_size",
                              .n_experts = 8,
                              .top_k = 2},
                             &d);
    d.experts.norm_top_k = true;
    d.experts.block = "block_sparse_moe";
    d.experts.gate = "w1", d.experts.up = "w3", d.experts.down = "w2";
    if (config.Double("router_jitter_noise", 0) != 0) {
      throw retort::sdk::Failure(
          RETORT_UNIMPLEMENTED,
          "config.json: router_jitter_noise: noise on the inputs of experts is not drawn; set it "
          "to 0");
    }
    retort::sdk::BuildDecoder(graph, d);
  }
  std::string Describe(const JsonValue&) { return retort::sdk::DescribeExpertDecoder(); }
};

RETORT_FAMILY("mixtral", Mixtral, "Mixtral");
// [family.end]

}  // namespace
