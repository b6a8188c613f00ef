// Gemma 2: four norms a block, scaled embeddings, soft caps on scores and logits, and a sliding
// window in every other layer, the first one included.
// SPDX-License-Identifier: Apache-2.0
#include "retort/sdk/decoder.h"

namespace {

using retort::sdk::Decoder;
using retort::sdk::GraphBuilder;
using retort::sdk::JsonValue;

class Gemma2 {
 public:
  explicit Gemma2(const retort::sdk::Config&) {}
  int Match(const JsonValue& config) {
    return config.String("model_type", "") == "gemma2" ? 100 : 0;
  }
  void Build(const JsonValue& config, GraphBuilder& graph) {
    Decoder d =
        retort::sdk::ReadDecoder(config, {.kv_heads = 4, .head_dim = 256, .tied_head = true});
    retort::sdk::ReadGemma(config, &d);
    d.attention_soft_cap = retort::sdk::ReadSoftCap(config, "attn_logit_softcapping", 50);
    d.logit_soft_cap = retort::sdk::ReadSoftCap(config, "final_logit_softcapping", 30);
    retort::sdk::ReadLayerWindows(
        config, retort::sdk::ReadWindow(config, 4096), [](int64_t i) { return i % 2 == 0; }, &d);
    retort::sdk::BuildDecoder(graph, d);
  }
  std::string Describe(const JsonValue&) { return retort::sdk::DescribeDecoder(); }
};

RETORT_FAMILY("gemma2", Gemma2, "Gemma 2");

}  // namespace
