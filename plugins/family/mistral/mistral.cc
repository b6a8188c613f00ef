// Mistral: Llama's shape with one sliding window for all layers.
// SPDX-License-Identifier: Apache-2.0
#include "retort/sdk/decoder.h"

namespace {

using retort::sdk::Decoder;
using retort::sdk::GraphBuilder;
using retort::sdk::JsonValue;

class Mistral {
 public:
  explicit Mistral(const retort::sdk::Config&) {}
  int Match(const JsonValue& config) {
    return config.String("model_type", "") == "mistral" ? 100 : 0;
  }
  void Build(const JsonValue& config, GraphBuilder& graph) {
    Decoder d = retort::sdk::ReadDecoder(config, {.kv_heads = 8});
    if (config["layer_types"]) {
      retort::sdk::internal::BadKey("layer_types", "layers of this family have one type");
    }
    d.windows.assign(d.windows.size(), retort::sdk::ReadWindow(config, 4096));
    retort::sdk::BuildDecoder(graph, d);
  }
  std::string Describe(const JsonValue&) { return retort::sdk::DescribeDecoder(); }
};

RETORT_FAMILY("mistral", Mistral, "Mistral (dense), with a sliding window or without");

}  // namespace
