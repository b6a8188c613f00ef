// The decoder with rotary positions, grouped heads and a gated MLP that most open models are, as
// one description: a family fills it from config.json, changes what is special, and writes the
// graph.
// Letters: V vocabulary, D width, F MLP width, L layers, N query heads, G key/value heads, H head.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_DECODER_H_
#define RETORT_SDK_DECODER_H_

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "retort/sdk/family.h"

namespace retort::sdk {

// The norms of a block by their names in the checkpoint; "": there is none.
struct BlockNorms {
  std::string before_attention = "input_layernorm", after_attention = {};
  std::string before_mlp = "post_attention_layernorm", after_mlp = {};
};

struct Rope {
  double theta = 10000;
  std::string scaling = {};  // JSON object, "" for none
};

// Layers of experts in the place of MLPs.
struct Experts {
  int64_t E = 0, K = 0, F = 0;  // E 0: the model has none; K of a token, F the width of one
  int64_t shared = 0;  // width of one more, that every token takes, behind a sigmoid; 0: none
  bool norm_top_k = false;
  double aux_coef = 0;              // of the load-balancing loss; 0: not added to the loss
  std::vector<bool> in_layer = {};  // [L]
  // Names in the checkpoint: of the block, and of an expert's matrices. Params have transformers'
  // names: "mlp.experts.gate_up_proj".
  std::string block = "mlp", gate = "gate_proj", up = "up_proj", down = "down_proj";
};

struct Decoder {
  int64_t V = 0, D = 0, F = 0, L = 0, N = 0, G = 0, H = 0;
  int64_t max_positions = 0;
  double eps = 1e-6, init_deviation = 0.02;
  uint32_t activation = RETORT_ACTIVATION_SILU;
  bool tied_head = false;
  bool qkv_bias = false, out_bias = false, mlp_bias = false;
  bool head_norm = false;  // of each head of q and k, before rope
  bool wide_norm = false;  // of q and k over their whole width, before rope
  bool fused = false;      // qkv_proj and gate_up_proj in the checkpoint: params are rows of them
  BlockNorms norms = {};
  double norm_offset = 0;  // norms multiply by weight + norm_offset
  double embed_scale = 1;
  double attention_scale = 0;                         // 0: 1 / sqrt(H)
  double attention_soft_cap = 0, logit_soft_cap = 0;  // 0: none
  Rope rope = {}, window_rope = {};                   // window_rope: of layers with a window
  int64_t rotary_dim = 0;                             // the first elements of each head
  std::vector<int64_t> windows = {};                  // [L], 0: full attention
  Experts experts = {};
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

inline uint32_t ActivationOf(std::string_view name, const char* key = "hidden_act") {
  if (name == "silu" || name == "swish") return RETORT_ACTIVATION_SILU;
  if (name == "gelu") return RETORT_ACTIVATION_GELU;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return RETORT_ACTIVATION_GELU_TANH;
  if (name == "relu2") return RETORT_ACTIVATION_RELU2;
  BadKey(key, Quote(name) + " is not known (silu, gelu, gelu_pytorch_tanh, gelu_new, relu2)");
}

inline std::string_view RopeTypeOf(const JsonValue& scaling) {
  return scaling.String("rope_type", scaling.String("type", "default"));
}

inline Rope RopeOf(const JsonValue& scaling, const char* key, double theta) {
  if (scaling && !scaling.is_object()) BadKey(key, "must be an object");
  if (!(theta > 0)) BadKey("rope_theta", "must be above 0");
  Rope rope{.theta = theta};
  if (scaling && RopeTypeOf(scaling) != "default") rope.scaling = scaling.Dump();
  return rope;
}

// The object `scaling` with its type and the original length replaced.
inline std::string ScalingWith(const JsonValue& scaling, std::string_view type, int64_t original) {
  std::string out = "{\"rope_type\":" + Quote(type) +
                    ",\"original_max_position_embeddings\":" + std::to_string(original);
  for (size_t i = 0; i < scaling.size(); ++i) {
    const std::string_view key = scaling.key_at(i);
    if (key == "rope_type" || key == "type" || key == "original_max_position_embeddings") continue;
    out.append(",").append(Quote(key)).append(":").append(scaling[key].Dump());
  }
  return out + "}";
}

// A model may say its original length outside of the scaling's object; that one counts.
inline Rope WithOriginalLength(const JsonValue& config, const JsonValue& scaling, Rope rope) {
  const char* key = "original_max_position_embeddings";
  if (rope.scaling.empty() || !config[key]) return rope;
  const std::string_view type = RopeTypeOf(scaling);
  if (type != "llama3" && type != "yarn" && type != "longrope") return rope;
  rope.scaling = ScalingWith(scaling, type, Size(config, key));
  return rope;
}

// transformers 4 has rope_theta and rope_scaling, transformers 5 rope_parameters with both.
inline Rope ReadRope(const JsonValue& config, double theta) {
  const JsonValue both = config["rope_parameters"];
  theta = config.Double("rope_theta", theta);
  if (!both) {
    const JsonValue scaling = config["rope_scaling"];
    return WithOriginalLength(config, scaling, RopeOf(scaling, "rope_scaling", theta));
  }
  if (both.is_object() && (both.has("full_attention") || both.has("sliding_attention"))) {
    BadKey("rope_parameters", "differ by layer type, which this family does not have");
  }
  if (both.is_object()) theta = both.Double("rope_theta", theta);
  return WithOriginalLength(config, both, RopeOf(both, "rope_parameters", theta));
}

// As Gemma 3 has it: in transformers 4 rope_scaling leaves layers with a window alone, in
// transformers 5 rope_parameters has an object for each type of layer.
inline void ReadTwoRopes(const JsonValue& config, double theta, double window_theta, Decoder* d) {
  const JsonValue both = config["rope_parameters"];
  theta = config.Double("rope_theta", theta);
  window_theta = config.Double("rope_local_base_freq", window_theta);
  if (!both) {
    d->rope = RopeOf(config["rope_scaling"], "rope_scaling", theta);
    d->window_rope = RopeOf(JsonValue(), "rope_local_base_freq", window_theta);
    return;
  }
  if (!both.is_object()) BadKey("rope_parameters", "must be an object");
  for (const char* key : {"rope_theta", "rope_type", "type"}) {
    if (both.has(key)) BadKey("rope_parameters", "must have an object for each type of layer");
  }
  const auto read = [&](const char* type, double fallback) {
    const JsonValue one = both[type];
    return RopeOf(one, type,
                  one && one.is_object() ? one.Double("rope_theta", fallback) : fallback);
  };
  d->rope = read("full_attention", theta);
  d->window_rope = read("sliding_attention", window_theta);
}

}  // namespace internal

// What a family takes where config.json says nothing; 0: as many key/value heads as query heads,
// head_dim D/N, rope of layers with a window like that of the others.
struct DecoderDefaults {
  int64_t kv_heads = 0, head_dim = 0;
  double eps = 1e-6;
  bool tied_head = false;
  double rope_theta = 10000, window_rope_theta = 0;
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
  d.eps = config.Double("rms_norm_eps", defaults.eps);
  d.init_deviation = config.Double("initializer_range", 0.02);
  d.activation = internal::ActivationOf(config.String("hidden_act", "silu"));
  d.tied_head = config.Bool("tie_word_embeddings", defaults.tied_head);
  d.rotary_dim = d.H;
  if (defaults.window_rope_theta > 0) {
    internal::ReadTwoRopes(config, defaults.rope_theta, defaults.window_rope_theta, &d);
  } else {
    d.rope = d.window_rope = internal::ReadRope(config, defaults.rope_theta);
  }
  d.windows.assign(static_cast<size_t>(d.L), 0);
  return d;
}

// sliding_window: absent (fallback), null (0: none) or above 0.
inline int64_t ReadWindow(const JsonValue& config, int64_t fallback) {
  if (!config.has("sliding_window")) return fallback;
  return config["sliding_window"] ? internal::Size(config, "sliding_window") : 0;
}

// A window for the layers that layer_types names "sliding_attention"; where it is absent, for those
// of which slides(layer, counted from 0) is true.
template <class Slides>
void ReadLayerWindows(const JsonValue& config, int64_t window, Slides slides, Decoder* d) {
  const JsonValue types = config["layer_types"];
  if (types && types.size() != static_cast<size_t>(d->L)) {
    internal::BadKey("layer_types", "has " + std::to_string(types.size()) + " entries for " +
                                        std::to_string(d->L) + " layers");
  }
  for (int64_t i = 0; i < d->L; ++i) {
    const auto index = static_cast<size_t>(i);
    const std::string_view type = types       ? types.at(index).AsString()
                                  : slides(i) ? "sliding_attention"
                                              : "full_attention";
    if (type == "full_attention") continue;
    if (type != "sliding_attention") {
      internal::BadKey("layer_types", Quote(type) +
                                          " is not known (full_attention, "
                                          "sliding_attention)");
    }
    if (window < 1) internal::BadKey("sliding_window", "is missing, but layers have a window");
    d->windows[index] = window;
  }
}

// As Qwen2 and Qwen3 have them: if use_sliding_window, layers from max_window_layers on.
inline void ReadQwenWindows(const JsonValue& config, Decoder* d) {
  if (!config.Bool("use_sliding_window", false)) return;
  const int64_t window = internal::Size(config, "sliding_window", 4096);
  const int64_t first = config.Int("max_window_layers", 28);
  ReadLayerWindows(
      config, window, [&](int64_t i) { return i >= first; }, d);
}

// How many experts and how wide, and whether their load-balancing loss is added to the loss. Keys
// have several names: the first that is there counts. In all layers, until said otherwise.
struct ExpertKeys {
  std::vector<const char*> count = {"num_experts"};
  const char* width = "moe_intermediate_size";
  int64_t n_experts = 0, top_k = 0, hidden = 0;  // defaults
};
inline void ReadExperts(const JsonValue& config, const ExpertKeys& keys, Decoder* d) {
  Experts& experts = d->experts;
  const char* count = keys.count.front();
  for (const char* key : keys.count) {
    if (!config[count]) count = config[key] ? key : count;
  }
  experts.E = internal::Size(config, count, keys.n_experts);
  if (experts.E > 1024) {
    internal::BadKey(count, "is " + std::to_string(experts.E) + ", limit 1024");
  }
  experts.K = internal::Size(config, "num_experts_per_tok", keys.top_k);
  experts.F = internal::Size(config, keys.width, keys.hidden);
  if (experts.K > experts.E) {
    internal::BadKey("num_experts_per_tok", "is " + std::to_string(experts.K) + ", but there are " +
                                                std::to_string(experts.E) + " experts");
  }
  const double coef = config.Double("router_aux_loss_coef", 0.001);
  if (!(coef >= 0)) internal::BadKey("router_aux_loss_coef", "must be at least 0");
  experts.aux_coef = config.Bool("output_router_logits", false) ? coef : 0;
  experts.in_layer.assign(static_cast<size_t>(d->L), true);
}

// As Qwen's families have them: every decoder_sparse_step-th layer, those of mlp_only_layers not.
inline void ReadSparseLayers(const JsonValue& config, Decoder* d) {
  const int64_t step = internal::Size(config, "decoder_sparse_step", 1);
  for (int64_t i = 0; i < d->L; ++i) {
    d->experts.in_layer[static_cast<size_t>(i)] = (i + 1) % step == 0;
  }
  const JsonValue dense = config["mlp_only_layers"];
  for (size_t k = 0; k < dense.size(); ++k) {
    const int64_t layer = dense.at(k).AsInt();
    if (layer >= 0 && layer < d->L) d->experts.in_layer[static_cast<size_t>(layer)] = false;
  }
}

// A key that is absent (fallback), null (0: none) or a number above 0.
inline double ReadSoftCap(const JsonValue& config, const char* key, double fallback) {
  if (!config.has(key)) return fallback;
  if (!config[key]) return 0;
  const double cap = config.Double(key);
  if (!(cap > 0)) internal::BadKey(key, "must be above 0, or null for none");
  return cap;
}

// What Gemma 2 and 3 share: the embedding is scaled, norms multiply by 1 + weight and stand on both
// sides of attention and MLP, scores and logits may have soft caps.
inline void ReadGemma(const JsonValue& config, Decoder* d) {
  if (config.Bool("use_bidirectional_attention", false)) {
    internal::BadKey("use_bidirectional_attention", "attention here is causal");
  }
  d->norms = {.before_attention = "input_layernorm",
              .after_attention = "post_attention_layernorm",
              .before_mlp = "pre_feedforward_layernorm",
              .after_mlp = "post_feedforward_layernorm"};
  d->norm_offset = 1;
  d->embed_scale = std::sqrt(static_cast<double>(d->D));
  d->activation = internal::ActivationOf(config.String("hidden_activation", "gelu_pytorch_tanh"),
                                         "hidden_activation");
  d->qkv_bias = d->out_bias = config.Bool("attention_bias", false);
  const double scalar = config.Double("query_pre_attn_scalar", 256);
  if (!(scalar > 0)) internal::BadKey("query_pre_attn_scalar", "must be above 0");
  d->attention_scale = 1 / std::sqrt(scalar);
}

namespace internal {

class DecoderWriter {
 public:
  DecoderWriter(GraphBuilder& graph, const Decoder& d)
      : g_(graph),
        d_(d),
        normal_(ParamInit::Normal(d.init_deviation)),
        unit_(ParamInit::Constant(1 - d.norm_offset)) {}

  void Write() {
    const Param table = g_.Weight("model.embed_tokens.weight", {d_.V, d_.D}, normal_);
    Value x = g_.Embed(table, d_.embed_scale);
    for (int64_t i = 0; i < d_.L; ++i) {
      g_.Block(static_cast<uint32_t>(i));
      layer_ = "model.layers." + std::to_string(i) + ".";
      const BlockNorms& n = d_.norms;
      x = g_.Add(x, BlockNorm(Attention(BlockNorm(x, n.before_attention), i), n.after_attention));
      const bool sparse = d_.experts.E > 0 && d_.experts.in_layer[static_cast<size_t>(i)];
      const Value y = BlockNorm(x, n.before_mlp);
      x = g_.Add(x, BlockNorm(sparse ? Moe(y) : Mlp(y, "mlp", d_.F), n.after_mlp));
    }
    const Value hidden = Norm(x, "model.norm", d_.D);
    const Param head = d_.tied_head ? table : g_.Weight("lm_head.weight", {d_.V, d_.D}, normal_);
    g_.Result(hidden, head, 1, d_.logit_soft_cap);
  }

 private:
  Value Norm(Value x, const std::string& name, int64_t width) {
    return g_.RmsNorm(x, g_.Weight(name + ".weight", {width}, unit_), d_.eps, d_.norm_offset);
  }
  Value BlockNorm(Value x, const std::string& name) {
    return name.empty() ? x : Norm(x, layer_ + name, d_.D);
  }
  Value Linear(Value x, const std::string& name, int64_t out, int64_t in, bool bias) {
    const Param w =
        g_.Weight(layer_ + name + ".weight", {out, in}, normal_, RETORT_PARAM_LORA_TARGET);
    const Param b =
        bias ? g_.Weight(layer_ + name + ".bias", {out}, ParamInit::Constant(0)) : Param{0};
    return g_.Linear(x, w, b);
  }
  // A projection from x [T,D]: its own tensor, or `out` rows from `row` on of the tensor `fused`.
  Value Part(Value x, const std::string& name, int64_t out, bool bias, const std::string& fused,
             int64_t row) {
    if (!d_.fused) return Linear(x, name, out, d_.D, bias);
    const std::string tensor = layer_ + fused + ".weight";
    return g_.Linear(x, g_.WeightFrom(layer_ + name + ".weight", {out, d_.D}, normal_,
                                      RETORT_PARAM_LORA_TARGET, {RowsOf(tensor, row, row + out)}));
  }
  // A projection to n heads.
  Value Project(Value x, const std::string& name, int64_t n, int64_t first_head) {
    return Part(x, "self_attn." + name + "_proj", n * d_.H, d_.qkv_bias, "self_attn.qkv_proj",
                first_head * d_.H);
  }
  // The same, normed and rotated.
  Value Heads(Value x, const std::string& name, int64_t n, int64_t first_head, int64_t layer) {
    Value h = Project(x, name, n, first_head);
    const std::string norm = layer_ + "self_attn." + name + "_norm";
    if (d_.wide_norm) h = Norm(h, norm, n * d_.H);
    if (d_.head_norm) {
      const Param w = g_.Weight(norm + ".weight", {d_.H}, unit_);
      h = g_.HeadNorm(h, w, static_cast<uint32_t>(d_.H), d_.eps, d_.norm_offset);
    }
    const Rope& rope = d_.windows[static_cast<size_t>(layer)] > 0 ? d_.window_rope : d_.rope;
    retort_rope_spec spec{};
    spec.struct_size = sizeof(spec);
    spec.layout = RETORT_ROPE_HALVES;
    spec.rotary_dim = static_cast<uint32_t>(d_.rotary_dim);
    spec.max_positions = static_cast<uint32_t>(d_.max_positions);
    spec.theta = rope.theta;
    if (!rope.scaling.empty()) spec.scaling_json = ToStr(rope.scaling);
    return g_.Rope(h, static_cast<uint32_t>(n), spec);
  }
  Value Attention(Value x, int64_t layer) {
    const Value q = Heads(x, "q", d_.N, 0, layer);
    const Value k = Heads(x, "k", d_.G, d_.N, layer);
    const Value v = Project(x, "v", d_.G, d_.N + d_.G);
    retort_attention_spec spec{};
    spec.struct_size = sizeof(spec);
    spec.n_heads = static_cast<uint32_t>(d_.N);
    spec.n_kv_heads = static_cast<uint32_t>(d_.G);
    spec.head_dim = static_cast<uint32_t>(d_.H);
    spec.window = static_cast<uint32_t>(d_.windows[static_cast<size_t>(layer)]);
    spec.scale = d_.attention_scale;
    spec.soft_cap = d_.attention_soft_cap;
    const Value out = g_.Attention(q, k, v, static_cast<uint32_t>(layer), spec);
    return Linear(out, "self_attn.o_proj", d_.D, d_.N * d_.H, d_.out_bias);
  }
  Value Mlp(Value x, const std::string& name, int64_t width) {
    const std::string fused = name + ".gate_up_proj";
    const Value gate = Part(x, name + ".gate_proj", width, d_.mlp_bias, fused, 0);
    const Value up = Part(x, name + ".up_proj", width, d_.mlp_bias, fused, width);
    return Linear(g_.Gated(gate, up, d_.activation), name + ".down_proj", d_.D, width, d_.mlp_bias);
  }
  // One matrix of each expert in turn, under one name; `parts`: their names in the checkpoint.
  Param Stack(const std::string& name, std::initializer_list<int64_t> shape,
              const std::vector<std::string>& parts, int64_t rows) {
    const std::string prefix = layer_ + d_.experts.block + ".experts.";
    std::vector<std::string> names;
    for (int64_t e = 0; e < d_.experts.E; ++e) {
      for (const std::string& part : parts) {
        names.push_back(prefix + std::to_string(e) + "." + part + ".weight");
      }
    }
    std::vector<retort_slice> sources;
    for (const std::string& source : names) sources.push_back(RowsOf(source, 0, rows));
    return g_.WeightFrom(layer_ + "mlp.experts." + name, shape, normal_, 0, sources);
  }
  static retort_slice RowsOf(const std::string& tensor, int64_t begin, int64_t end) {
    return {.checkpoint_name = tensor.c_str(),
            .row_begin = begin,
            .row_end = end,
            .transpose = 0,
            .flags = 0};
  }
  Value Moe(Value x) {
    const Experts& m = d_.experts;
    const std::string gate = layer_ + m.block + ".gate.weight";
    const Param router =
        g_.WeightFrom(layer_ + "mlp.gate.weight", {m.E, d_.D}, normal_, 0, {RowsOf(gate, 0, 0)});
    retort_moe_spec spec{};
    spec.struct_size = sizeof(spec);
    spec.flags = m.norm_top_k ? RETORT_MOE_NORM_TOP_K : 0;
    spec.n_experts = static_cast<uint32_t>(m.E);
    spec.top_k = static_cast<uint32_t>(m.K);
    spec.activation = d_.activation;
    spec.gate_up = Stack("gate_up_proj", {m.E, 2 * m.F, d_.D}, {m.gate, m.up}, m.F);
    spec.down = Stack("down_proj", {m.E, d_.D, m.F}, {m.down}, d_.D);
    spec.aux_coef = m.aux_coef;
    const Value y = g_.Moe(x, g_.Linear(x, router), spec);
    if (m.shared == 0) return y;
    const std::string shared = "mlp.shared_expert";
    const Value open =
        g_.Activation(Linear(x, shared + "_gate", 1, d_.D, false), RETORT_ACTIVATION_SIGMOID);
    return g_.Add(y, g_.Mul(Mlp(x, shared, m.shared), open));
  }

  GraphBuilder& g_;
  const Decoder& d_;
  ParamInit normal_, unit_;
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

// The same where layers may have experts only, which adapters don't reach.
inline std::string DescribeExpertDecoder() {
  return R"({"lora_targets": ["q_proj", "k_proj", "v_proj", "o_proj"],)"
         R"( "ignore": ["rotary_emb.inv_freq"]})";
}

}  // namespace retort::sdk

#endif  // RETORT_SDK_DECODER_H_
