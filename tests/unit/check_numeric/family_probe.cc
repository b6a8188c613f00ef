// A family of small decoders, one attention and one custom op (op_probe.cc) in each block.
// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "probe.h"
#include "retort/sdk/family.h"

namespace {

using retort::sdk::Failure;
using retort::sdk::GraphBuilder;
using retort::sdk::JsonValue;
using retort::sdk::Param;
using retort::sdk::ParamInit;
using retort::sdk::Value;

class Family final : public retort::sdk::Instance {
 public:
  explicit Family(const retort::sdk::Config& config) : bugs_(config), host_(config.host()) {}
  const void* GetInterface(std::string_view id) override {
    return id == RETORT_FAMILY_INTERFACE ? &table_ : nullptr;
  }

 private:
  static Family& Of(retort_instance* p) { return static_cast<Family&>(Instance::Of(p)); }

  static retort_status Match(retort_instance* p, const retort_call* call, retort_str config,
                             int32_t* score) {
    return retort::sdk::Guard(call, [&] {
      const auto json = Of(p).host_.Parse(retort::sdk::ToView(config));
      const std::string_view type = json->root().String("model_type", "");
      *score = type == "family_probe" ? 90 : 0;
      if (Of(p).bugs_.Has("match") && type == "no_such_family") *score = 1;
    });
  }
  static retort_status Build(retort_instance* p, const retort_call* call, retort_str config,
                             const retort_builder_v1* builder) {
    if (Of(p).bugs_.Has("growth") && builder->struct_size > sizeof(*builder)) {
      return probe::Fail(call, RETORT_INVALID_ARGUMENT, "a builder of another size");
    }
    return retort::sdk::Guard(call, [&] {
      GraphBuilder graph(builder);
      Of(p).Write(Of(p).host_.Parse(retort::sdk::ToView(config))->root(), graph);
    });
  }
  static retort_status Describe(retort_instance* p, const retort_call* call, retort_str,
                                const retort_sink* sink) {
    return retort::sdk::Guard(call, [&] {
      const bool bug = Of(p).bugs_.Has("describe");
      retort::sdk::WriteAll(*sink, std::string(R"({"lora_targets": ["q_proj", ")") +
                                       (bug ? "o_porj" : "o_proj") +
                                       R"("], "chat_format": "chatml"})");
    });
  }

  int64_t Size(const JsonValue& config, const char* key, int64_t most) const {
    if (bugs_.Has("config") && !config[key]) throw Failure(RETORT_INTERNAL, "no such key");
    const int64_t n = config.Int(key);
    if (n >= 1 && n <= most) return n;
    throw Failure(RETORT_INVALID_ARGUMENT, std::string(key) + " is out of range");
  }

  void Write(const JsonValue& config, GraphBuilder& g) {
    const int64_t V = Size(config, "vocab_size", 1 << 20), D = Size(config, "hidden_size", 1 << 14),
                  L = Size(config, "num_hidden_layers", 200),
                  N = Size(config, "num_attention_heads", 256);
    if (D % N != 0) throw Failure(RETORT_INVALID_ARGUMENT, "heads don't divide the width");
    double eps = 1e-6;
    if (bugs_.Has("build")) eps *= 1 + ++n_builds_;
    const ParamInit one = ParamInit::Constant(1);
    const Param table = g.Weight("embed.weight", {V, D}, ParamInit::Normal(0.02));
    Value x = g.Embed(table);
    for (int64_t i = 0; i < L; ++i) {
      g.Block(static_cast<uint32_t>(i));
      const std::string layer = "layers." + std::to_string(i) + ".";
      const Value h = g.RmsNorm(x, g.Weight(layer + "norm.weight", {D}, one), eps);
      x = g.Add(x, Attention(g, h, layer, D, N, static_cast<uint32_t>(i)));
      x = g.Add(x, Leak(g, h, layer, D));
      if (bugs_.Has("load") && i == 0) x = g.Add(x, Shared(g, h, D));
    }
    g.Result(g.RmsNorm(x, g.Weight("norm.weight", {D}, one), eps), table);
  }

  static Value Attention(GraphBuilder& g, Value h, const std::string& layer, int64_t D, int64_t N,
                         uint32_t index) {
    const auto linear = [&](Value from, const char* name) {
      return g.Linear(from, g.Weight(layer + name + ".weight", {D, D}, ParamInit::Normal(0.02)),
                      Param{0});
    };
    retort_attention_spec spec{};
    spec.struct_size = sizeof(spec);
    spec.n_heads = spec.n_kv_heads = static_cast<uint32_t>(N);
    spec.head_dim = static_cast<uint32_t>(D / N);
    const Value out =
        g.Attention(linear(h, "q_proj"), linear(h, "k_proj"), linear(h, "v_proj"), index, spec);
    return linear(out, "o_proj");
  }

  Value Leak(GraphBuilder& g, Value h, const std::string& layer, int64_t D) const {
    const retort_builder_v1& b = g.raw();
    const Value in[] = {h,
                        b.value_of(b.ctx, g.Weight(layer + "leak", {D}, ParamInit::Constant(1)))};
    const char* attributes = bugs_.Has("decode") ? R"({"bug": "decode"})" : "{}";
    return b.custom(b.ctx, "op_probe", in, 2, 1, {attributes, std::strlen(attributes)});
  }

  // Two params that want rows of different lengths of one checkpoint tensor.
  static Value Shared(GraphBuilder& g, Value h, int64_t D) {
    const auto rows = [](int64_t begin, int64_t end) {
      return std::vector<retort_slice>{{"shared.weight", begin, end, 0, 0}};
    };
    const ParamInit init = ParamInit::Normal(0.02);
    const Param up = g.WeightFrom("shared_up", {2 * D, D}, init, 0, rows(0, 2 * D));
    const Param down = g.WeightFrom("shared_down", {D, 2 * D}, init, 0, rows(2 * D, 3 * D));
    return g.Linear(g.Linear(h, up, Param{0}), down, Param{0});
  }

  probe::Bugs bugs_;
  retort::sdk::Host host_;
  int n_builds_ = 0;
  retort_family_v1 table_ = {sizeof(retort_family_v1), 0, Match, Build, Describe};
};

RETORT_SDK_REGISTER(RETORT_KIND_FAMILY, "family_probe", Family, "a family with a bug",
                    probe::kSchema);

}  // namespace
