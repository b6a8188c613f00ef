// Phi-3: Llama's shape; query, key and value are rows of one checkpoint tensor, gate and up of
// another, and only the first part of a head may be rotated.
// SPDX-License-Identifier: Apache-2.0
#include "retort/sdk/decoder.h"

namespace {

using retort::sdk::Decoder;
using retort::sdk::GraphBuilder;
using retort::sdk::JsonValue;

// Types that older files have mean longrope, too; transformers takes no others.
void ReadLongrope(const JsonValue& config, Decoder* d) {
  const JsonValue both = config["rope_parameters"];
  const JsonValue scaling = both ? both : config["rope_scaling"];
  const std::string_view type = retort::sdk::internal::RopeTypeOf(scaling);
  if (type != "longrope" && type != "su" && type != "yarn") {
    throw retort::sdk::Failure(
        RETORT_UNIMPLEMENTED,
        std::string("config.json: ") + (both ? "rope_parameters" : "rope_scaling") + ": type " +
            retort::sdk::Quote(type) +
            " is not supported for phi3; supported are default and longrope (also as su and yarn)");
  }
  const int64_t original =
      retort::sdk::internal::Size(config, "original_max_position_embeddings", 4096);
  d->rope.scaling = retort::sdk::internal::ScalingWith(scaling, "longrope", original);
}

// Elements of a head that are rotated.
int64_t RotaryDim(const JsonValue& config, int64_t head_dim) {
  const double factor = config["rope_parameters"].Double("partial_rotary_factor",
                                                         config.Double("partial_rotary_factor", 1));
  const double dims = factor * static_cast<double>(head_dim);
  const int64_t whole = factor > 0 && factor <= 1 ? static_cast<int64_t>(dims) : 0;
  if (whole < 2 || whole % 2 != 0) {
    retort::sdk::internal::BadKey("partial_rotary_factor",
                                  "must give an even part of head_dim " + std::to_string(head_dim));
  }
  return whole;
}

class Phi3 {
 public:
  explicit Phi3(const retort::sdk::Config&) {}
  int Match(const JsonValue& config) { return config.String("model_type", "") == "phi3" ? 100 : 0; }
  void Build(const JsonValue& config, GraphBuilder& graph) {
    Decoder d = retort::sdk::ReadDecoder(config, {.eps = 1e-5});
    if (!d.rope.scaling.empty()) ReadLongrope(config, &d);
    d.fused = true;
    d.rotary_dim = RotaryDim(config, d.H);
    d.windows.assign(d.windows.size(), retort::sdk::ReadWindow(config, 0));
    retort::sdk::BuildDecoder(graph, d);
  }
  std::string Describe(const JsonValue&) { return retort::sdk::DescribeDecoder(); }
};

RETORT_FAMILY("phi3", Phi3, "Phi-3 and Phi-4 (dense)");

}  // namespace
