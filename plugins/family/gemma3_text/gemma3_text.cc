// Gemma 3, text: Gemma 2's block with normed heads instead of soft caps, and rotary positions of
// another base in the layers with a sliding window.
// SPDX-License-Identifier: Apache-2.0
#include "retort/sdk/decoder.h"

namespace {

using retort::sdk::Decoder;
using retort::sdk::GraphBuilder;
using retort::sdk::JsonValue;

class Gemma3Text {
 public:
  explicit Gemma3Text(const retort::sdk::Config&) {}
  int Match(const JsonValue& config) {
    return config.String("model_type", "") == "gemma3_text" ? 100 : 0;
  }
  void Build(const JsonValue& config, GraphBuilder& graph) {
    Decoder d = retort::sdk::ReadDecoder(config, {.kv_heads = 4,
                                                  .head_dim = 256,
                                                  .tied_head = true,
                                                  .rope_theta = 1e6,
                                                  .window_rope_theta = 1e4});
    retort::sdk::ReadGemma(config, &d);
    d.head_norm = true;
    if (config["attn_logit_softcapping"]) {  // transformers' Gemma 3 reads the key without using it
      retort::sdk::internal::BadKey("attn_logit_softcapping", "must be null in this family");
    }
    d.logit_soft_cap = retort::sdk::ReadSoftCap(config, "final_logit_softcapping", 0);
    const int64_t pattern = retort::sdk::internal::Size(config, "sliding_window_pattern", 6);
    retort::sdk::ReadLayerWindows(
        config, retort::sdk::ReadWindow(config, 4096),
        [&](int64_t i) { return (i + 1) % pattern != 0; }, &d);
    retort::sdk::BuildDecoder(graph, d);
  }
  std::string Describe(const JsonValue&) { return retort::sdk::DescribeDecoder(); }
};

RETORT_FAMILY("gemma3_text", Gemma3Text, "Gemma 3 (text)");

}  // namespace
