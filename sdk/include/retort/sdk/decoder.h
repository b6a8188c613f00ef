// The pre-norm decoder with rotary positions, grouped heads and a gated MLP that most open models
// are, as one description: a family fills it from config.json, changes what is special, and
// writes the graph.
// Letters: V vocabulary, D width, F MLP width, L layers, N query heads, G key/value heads, H head.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_DECODER_H_
#define RETORT_SDK_DECODER_H_

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "retort/sdk/family.h"

namespace retort::sdk {

struct Decoder {
  int64_t V = 0, D = 0, F = 0, L = 0, N = 0, G = 0, H = 0;
  int64_t max_positions = 0;
  double eps = 1e-6, init_deviation = 0.02;
  uint32_t activation = RETORT_ACTIVATION_SILU;
  bool tied_head = false;
  bool qkv_bias = false, out_bias = false, mlp_bias = false;
  bool head_norm = false;  // of q and k, before rope
  double rope_theta = 10000;
  std::string rope_scaling = {};      // JSON object, "" for none
  std::vector<int64_t> windows = {};  // [L], 0: full attention
};

namespace internal {

[[noreturn]] inline void BadKey(const std::string& key, const std::string& why) {
  throw Failure(RETORT_INVALID_ARGUMENT, "config.json: " + key + ": " + why);
}

// An integer in 1..2^31-1.
inline int64_t Size(const JsonValue& config, const char* key, int64_t fallback = 0) {
  const int64_t n = fallback > 0 ? config.Int(key, fallback) : config.Int(key);
  if (n < 1 || n > std::numeric_limits<int32_t>::max()) {
    BadKey(key, "is " + std::to_string(n) + ", but must be between 1 and 2147483647");
  }
  return n;
}

// An explicit null means one per query head in every family.
inline int64_t ReadKvHeads(const JsonValue& config, int64_t n_heads, int64_t fallback) {
  const bool is_null = config.has("num_key_value_heads") && !config["num_key_value_heads"];
  return Size(config, "num_key_value_heads", is_null || fallback == 0 ? n_heads : fallback);
}

inline uint32_t ActivationOf(std::string_view name) {
  if (name == "silu" || name == "swish") return RETORT_ACTIVATION_SILU;
  if (name == "gelu") return RETORT_ACTIVATION_GELU;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return RETORT_ACTIVATION_GELU_TANH;
  if (name == "relu2") return RETORT_ACTIVATION_RELU2;
  BadKey("hidden_act",
         Quote(name) + " is not known (silu, gelu, gelu_pytorch_tanh, gelu_new, relu2)");
}

// transformers 4 has rope_theta and rope_scaling, transformers 5 rope_parameters with both.
inline void ReadRope(const JsonValue& config, Decoder* d) {
  const JsonValue both = config["rope_parameters"];
  const JsonValue scaling = both ? both : config["rope_scaling"];
  d->rope_theta = both ? both.Double("rope_theta", config.Double("rope_theta", 10000))
                       : config.Double("rope_theta", 10000);
  if (!(d->rope_theta > 0)) BadKey("rope_theta", "must be above 0");
  if (!scaling) return;
  if (!scaling.is_object()) BadKey(both ? "rope_parameters" : "rope_scaling", "must be an object");
  const std::string_view type = scaling.String("rope_type", scaling.String("type", "default"));
  if (type != "default") d->rope_scaling = scaling.Dump();
}

}  // namespace internal

// What a family takes where config.json says nothing; 0: as many key/value heads as query heads,
// head_dim D/N.
struct DecoderDefaults {
  int64_t kv_heads = 0, head_dim = 0;
};

// The keys that all such families share, under their names in transformers.
inline Decoder ReadDecoder(const JsonValue& config, DecoderDefaults defaults = {}) {
  using internal::BadKey;
  using internal::ReadKvHeads;
  using internal::Size;
  Decoder d;
  d.V = Size(config, "vocab_size");
  d.D = Size(config, "hidden_size");
  d.F = Size(config, "intermediate_size");
  d.L = Size(config, "num_hidden_layers");
  d.N = Size(config, "num_attention_heads");
  d.G = ReadKvHeads(config, d.N, defaults.kv_heads);
  d.H = Size(config, "head_dim",
             defaults.head_dim > 0 ? defaults.head_dim : std::max<int64_t>(1, d.D / d.N));
  d.max_positions = Size(config, "max_position_embeddings");
  if (d.L > 10'000) BadKey("num_hidden_layers", "is " + std::to_string(d.L) + ", limit 10000");
  if (d.N % d.G != 0) {
    BadKey("num_key_value_heads",
           std::to_string(d.G) + " does not divide num_attention_heads " + std::to_string(d.N));
  }
  if (!config["head_dim"] && defaults.head_dim == 0 && d.D % d.N != 0) {
    BadKey("num_attention_heads", std::to_string(d.N) + " does not divide hidden_size " +
                                      std::to_string(d.D) + ", and there is no head_dim");
  }
  if (d.H % 2 != 0)
    BadKey("head_dim", std::to_string(d.H) + " is odd: rotary positions need pairs");
  d.eps = config.Double("rms_norm_eps", 1e-6);
  d.init_deviation = config.Double("initializer_range", 0.02);
  d.activation = internal::ActivationOf(config.String("hidden_act", "silu"));
  d.tied_head = config.Bool("tie_word_embeddings", false);
  internal::ReadRope(config, &d);
  d.windows.assign(static_cast<size_t>(d.L), 0);
  return d;
}

// Windows as Qwen2 and Qwen3 have them: if use_sliding_window, layers from max_window_layers on;
// layer_types overrides which.
inline void ReadQwenWindows(const JsonValue& config, Decoder* d) {
  if (!config.Bool("use_sliding_window", false)) return;
  const int64_t window = config.Int("sliding_window", 4096);
  const int64_t first = config.Int("max_window_layers", 28);
  const JsonValue types = config["layer_types"];
  if (types && types.size() != static_cast<size_t>(d->L)) {
    internal::BadKey("layer_types", "has " + std::to_string(types.size()) + " entries for " +
                                        std::to_string(d->L) + " layers");
  }
  for (int64_t i = 0; i < d->L; ++i) {
    const auto index = static_cast<size_t>(i);
    const bool slides = types ? types.at(index).AsString() == "sliding_attention" : i >= first;
    if (slides) d->windows[index] = window;
  }
}

namespace internal {

class DecoderWriter {
 public:
  DecoderWriter(GraphBuilder& graph, const Decoder& d)
      : g_(graph),
        d_(d),
        normal_(ParamInit::Normal(d.init_deviation)),
        one_(ParamInit::Constant(1)) {}

  void Write() {
    const Param table = g_.Weight("model.embed_tokens.weight", {d_.V, d_.D}, normal_);
    Value x = g_.Embed(table);
    for (int64_t i = 0; i < d_.L; ++i) {
      g_.Block(static_cast<uint32_t>(i));
      layer_ = "model.layers." + std::to_string(i) + ".";
      x = g_.Add(x, Attention(Norm(x, layer_ + "input_layernorm"), i));
      x = g_.Add(x, Mlp(Norm(x, layer_ + "post_attention_layernorm")));
    }
    const Value hidden = Norm(x, "model.norm");
    const Param head = d_.tied_head ? table : g_.Weight("lm_head.weight", {d_.V, d_.D}, normal_);
    g_.Result(hidden, head);
  }

 private:
  Value Norm(Value x, const std::string& name) {
    return g_.RmsNorm(x, g_.Weight(name + ".weight", {d_.D}, one_), d_.eps);
  }
  Value Linear(Value x, const std::string& name, int64_t out, int64_t in, bool bias) {
    const Param w =
        g_.Weight(layer_ + name + ".weight", {out, in}, normal_, RETORT_PARAM_LORA_TARGET);
    const Param b =
        bias ? g_.Weight(layer_ + name + ".bias", {out}, ParamInit::Constant(0)) : Param{0};
    return g_.Linear(x, w, b);
  }
  // A projection to n heads, normed and rotated.
  Value Heads(Value x, const std::string& name, int64_t n) {
    Value h = Linear(x, "self_attn." + name + "_proj", n * d_.H, d_.D, d_.qkv_bias);
    if (d_.head_norm) {
      const Param w = g_.Weight(layer_ + "self_attn." + name + "_norm.weight", {d_.H}, one_);
      h = g_.HeadNorm(h, w, static_cast<uint32_t>(d_.H), d_.eps);
    }
    retort_rope_spec rope{};
    rope.struct_size = sizeof(rope);
    rope.layout = RETORT_ROPE_HALVES;
    rope.rotary_dim = static_cast<uint32_t>(d_.H);
    rope.max_positions = static_cast<uint32_t>(d_.max_positions);
    rope.theta = d_.rope_theta;
    if (!d_.rope_scaling.empty()) rope.scaling_json = ToStr(d_.rope_scaling);
    return g_.Rope(h, static_cast<uint32_t>(n), rope);
  }
  Value Attention(Value x, int64_t layer) {
    const Value q = Heads(x, "q", d_.N);
    const Value k = Heads(x, "k", d_.G);
    const Value v = Linear(x, "self_attn.v_proj", d_.G * d_.H, d_.D, d_.qkv_bias);
    retort_attention_spec spec{};
    spec.struct_size = sizeof(spec);
    spec.n_heads = static_cast<uint32_t>(d_.N);
    spec.n_kv_heads = static_cast<uint32_t>(d_.G);
    spec.head_dim = static_cast<uint32_t>(d_.H);
    spec.window = static_cast<uint32_t>(d_.windows[static_cast<size_t>(layer)]);
    const Value out = g_.Attention(q, k, v, static_cast<uint32_t>(layer), spec);
    return Linear(out, "self_attn.o_proj", d_.D, d_.N * d_.H, d_.out_bias);
  }
  Value Mlp(Value x) {
    const Value gate = Linear(x, "mlp.gate_proj", d_.F, d_.D, d_.mlp_bias);
    const Value up = Linear(x, "mlp.up_proj", d_.F, d_.D, d_.mlp_bias);
    return Linear(g_.Gated(gate, up, d_.activation), "mlp.down_proj", d_.D, d_.F, d_.mlp_bias);
  }

  GraphBuilder& g_;
  const Decoder& d_;
  ParamInit normal_, one_;
  std::string layer_;
};

}  // namespace internal

inline void BuildDecoder(GraphBuilder& graph, const Decoder& decoder) {
  internal::DecoderWriter(graph, decoder).Write();
}

// What a family of this shape answers in Describe.
inline std::string DescribeDecoder() {
  return R"({"lora_targets": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj",)"
         R"( "down_proj"], "ignore": ["rotary_emb.inv_freq"]})";
}

}  // namespace retort::sdk

#endif  // RETORT_SDK_DECODER_H_
