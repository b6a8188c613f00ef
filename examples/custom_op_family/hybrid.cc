// A family whose decoder needs what the graph doesn't have: gated short convolutions (op
// short_conv, in this library) in some layers and attention in the others, as in LFM2, with the
// trainable activation of Apertus (op xielu, built in) in the MLPs. Letters: D width, F MLP width,
// N query heads, G key/value heads, H head, K taps. SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

#include "retort/sdk/decoder.h"

namespace {

using retort::sdk::Decoder;
using retort::sdk::Failure;
using retort::sdk::GraphBuilder;
using retort::sdk::JsonValue;
using retort::sdk::Param;
using retort::sdk::ParamInit;
using retort::sdk::Value;

// [family.begin]
class Writer {
 public:
  Writer(GraphBuilder& graph, const Decoder& d, const JsonValue& config)
      : g_(graph),
        d_(d),
        config_(config),
        taps_(config.Int("conv_L_cache", 3)),
        conv_bias_(config.Bool("conv_bias", false)),
        normal_(ParamInit::Normal(d.init_deviation)) {}

  void Write() {
    const JsonValue types = config_["layer_types"];
    if (types.size() != static_cast<size_t>(d_.L)) {
      throw Failure(
          RETORT_INVALID_ARGUMENT,
          "config.json: layer_types: needs one of \"conv\", \"full_attention\" per layer");
    }
    const Param table = g_.Weight("model.embed_tokens.weight", {d_.V, d_.D}, normal_);
    Value x = g_.Embed(table);
    for (int64_t i = 0; i < d_.L; ++i) {
      g_.Block(static_cast<uint32_t>(i));
      layer_ = "model.layers." + std::to_string(i) + ".";
      const Value y = Norm(x, layer_ + "operator_norm");
      x = g_.Add(x, Mix(y, types.at(static_cast<size_t>(i)).AsString()));
      x = g_.Add(x, Mlp(Norm(x, layer_ + "ffn_norm")));
    }
    g_.Result(Norm(x, "model.embedding_norm"), table);
  }

 private:
  Value Mix(Value x, std::string_view type) {
    if (type == "conv") return Convolution(x);
    if (type == "full_attention") return Attention(x);
    throw Failure(RETORT_INVALID_ARGUMENT, "config.json: layer_types: \"" + std::string(type) +
                                               "\" is not known (conv, full_attention)");
  }

  // out_proj(c * conv(b * x)); b, c and x are the three parts of in_proj.
  Value Convolution(Value x) {
    const Value b = InProjection(x, 0), c = InProjection(x, 1), inner = InProjection(x, 2);
    const Param kernel = g_.Weight(layer_ + "conv.conv.weight", {d_.D, 1, taps_}, normal_);
    const std::string attributes = "{\"kernel_size\": " + std::to_string(taps_) + "}";
    const Value input = g_.Mul(b, inner);
    Value y{};
    if (conv_bias_) {
      const Param bias = g_.Weight(layer_ + "conv.conv.bias", {d_.D}, ParamInit::Constant(0));
      y = g_.Custom("short_conv", {input, g_.ValueOf(kernel), g_.ValueOf(bias)}, 1, attributes);
    } else {
      y = g_.Custom("short_conv", {input, g_.ValueOf(kernel)}, 1, attributes);
    }
    return Linear(g_.Mul(c, y), "conv.out_proj", d_.D, d_.D);
  }

  // A third of the rows of one checkpoint tensor.
  Value InProjection(Value x, int64_t part) {
    const std::string source = layer_ + "conv.in_proj.weight";
    retort_slice slice{};
    slice.checkpoint_name = source.c_str();
    slice.row_begin = part * d_.D;
    slice.row_end = (part + 1) * d_.D;
    const std::string name = layer_ + "conv.in_proj." + std::to_string(part) + ".weight";
    return g_.Linear(x, g_.WeightFrom(name, {d_.D, d_.D}, normal_, 0, {slice}));
  }

  Value Heads(Value x, const std::string& name, int64_t n) {
    retort_rope_spec rope{};
    rope.struct_size = sizeof(rope);
    rope.layout = RETORT_ROPE_HALVES;
    rope.max_positions = static_cast<uint32_t>(d_.max_positions);
    rope.theta = d_.rope.theta;
    return g_.Rope(Linear(x, name, n * d_.H, d_.D), static_cast<uint32_t>(n), rope);
  }
  Value Attention(Value x) {
    const Value q = Heads(x, "self_attn.q_proj", d_.N), k = Heads(x, "self_attn.k_proj", d_.G);
    const Value v = Linear(x, "self_attn.v_proj", d_.G * d_.H, d_.D);
    retort_attention_spec spec{};
    spec.struct_size = sizeof(spec);
    spec.n_heads = static_cast<uint32_t>(d_.N);
    spec.n_kv_heads = static_cast<uint32_t>(d_.G);
    spec.head_dim = static_cast<uint32_t>(d_.H);
    const Value out = g_.Attention(q, k, v, n_attention_++, spec);
    return Linear(out, "self_attn.out_proj", d_.D, d_.N * d_.H);
  }

  Value Mlp(Value x) {
    const Value up = Linear(x, "mlp.up_proj", d_.F, d_.D);
    const double positive = std::log(std::expm1(0.8)), negative = std::log(std::expm1(0.8 - 0.5));
    const Param p = g_.Weight(layer_ + "mlp.act_fn.alpha_p", {1}, ParamInit::Constant(positive),
                              RETORT_PARAM_NO_DECAY);
    const Param n = g_.Weight(layer_ + "mlp.act_fn.alpha_n", {1}, ParamInit::Constant(negative),
                              RETORT_PARAM_NO_DECAY);
    const Value y = g_.Custom("xielu", {up, g_.ValueOf(p), g_.ValueOf(n)}, 1, R"({"beta": 0.5})");
    return Linear(y, "mlp.down_proj", d_.D, d_.F);
  }

  Value Norm(Value x, const std::string& name) {
    return g_.RmsNorm(x, g_.Weight(name + ".weight", {d_.D}, ParamInit::Constant(1)), d_.eps);
  }
  Value Linear(Value x, const std::string& name, int64_t out, int64_t in) {
    return g_.Linear(
        x, g_.Weight(layer_ + name + ".weight", {out, in}, normal_, RETORT_PARAM_LORA_TARGET));
  }

  GraphBuilder& g_;
  const Decoder& d_;
  const JsonValue& config_;
  const int64_t taps_;
  const bool conv_bias_;
  const ParamInit normal_;
  std::string layer_;
  uint32_t n_attention_ = 0;
};

class Hybrid {
 public:
  explicit Hybrid(const retort::sdk::Config&) {}
  int Match(const JsonValue& config) {
    return config.String("model_type", "") == "hybrid_example" ? 100 : 0;
  }
  void Build(const JsonValue& config, GraphBuilder& graph) {
    const Decoder d = retort::sdk::ReadDecoder(config);
    Writer(graph, d, config).Write();
  }
};

RETORT_FAMILY("hybrid_example", Hybrid, "short convolutions and attention, xIELU in the MLPs");
// [family.end]

}  // namespace
