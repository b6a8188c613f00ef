// Model families in C++: a class with
//   int Match(const JsonValue& config)                      0 no .. 100 surely
//   void Build(const JsonValue& config, GraphBuilder& graph)
// optionally `std::string Describe(const JsonValue& config)` (JSON object; see
// retort_family_v1), where `config` is the model's config.json. Then one line:
//   RETORT_FAMILY("my_family", MyFamily, "one line for people");
// Most decoders are a few settings of decoder.h.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_FAMILY_H_
#define RETORT_SDK_FAMILY_H_

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "retort/abi/draft/family.h"
#include "retort/sdk/plugin.h"
#include "retort/sdk/stream.h"

namespace retort::sdk {

using Value = retort_value;
using Param = retort_param;

// How a param starts when a model is trained from nothing.
struct ParamInit {
  uint32_t kind = RETORT_INIT_NORMAL;
  double value = 0.02;
  static ParamInit Normal(double deviation) { return {RETORT_INIT_NORMAL, deviation}; }
  static ParamInit Constant(double value) { return {RETORT_INIT_CONSTANT, value}; }
};

// retort_builder_v1 with the context filled in. Shapes in the comments: T token rows, D width.
// Mistakes are collected by the host and fail the build; no call needs a check.
class GraphBuilder {
 public:
  explicit GraphBuilder(const retort_builder_v1* b) : b_(b) {}
  const retort_builder_v1& raw() const { return *b_; }

  Param Weight(const std::string& name, std::initializer_list<int64_t> shape, ParamInit init,
               uint32_t flags = 0) {
    return WeightFrom(name, shape, init, flags, {});
  }
  // Rows of `sources`, stacked, under a name of its own.
  Param WeightFrom(const std::string& name, std::initializer_list<int64_t> shape, ParamInit init,
                   uint32_t flags, const std::vector<retort_slice>& sources) {
    const retort_param_spec spec = {.struct_size = sizeof(spec),
                                    .flags = flags,
                                    .name = name.c_str(),
                                    .shape = shape.begin(),
                                    .ndim = static_cast<uint32_t>(shape.size()),
                                    .n_sources = static_cast<uint32_t>(sources.size()),
                                    .sources = sources.data(),
                                    .source_stride = sizeof(retort_slice),
                                    .init = init.kind,
                                    .shard_axis = RETORT_SHARD_NONE,
                                    .init_value = init.value};
    return b_->param(b_->ctx, &spec);
  }

  Value Embed(Param table_VD, double scale = 1) { return b_->embed(b_->ctx, table_VD, scale); }
  // x [T,I], weight [O,I] -> [T,O]
  Value Linear(Value x, Param weight_OI, Param bias_O = {0}) {
    return b_->linear(b_->ctx, x, weight_OI, bias_O);
  }
  Value RmsNorm(Value x, Param weight_D, double eps, double weight_offset = 0) {
    return b_->rms_norm(b_->ctx, x, weight_D, eps, weight_offset);
  }
  Value LayerNorm(Value x, Param weight_D, Param bias_D, double eps) {
    return b_->layer_norm(b_->ctx, x, weight_D, bias_D, eps);
  }
  Value HeadNorm(Value x, Param weight_H, uint32_t head_dim, double eps, double offset = 0) {
    return b_->head_norm(b_->ctx, x, weight_H, head_dim, eps, offset);
  }
  Value Rope(Value x, uint32_t n_heads, const retort_rope_spec& spec) {
    return b_->rope(b_->ctx, x, n_heads, &spec);
  }
  // q [T,N*H], k and v [T,G*H] -> [T,N*H]
  Value Attention(Value q, Value k, Value v, uint32_t layer, const retort_attention_spec& spec) {
    return b_->attention(b_->ctx, q, k, v, layer, &spec);
  }
  Value Activation(Value x, uint32_t kind) { return b_->activation(b_->ctx, x, kind); }
  Value Gated(Value gate, Value up, uint32_t kind) { return b_->gated(b_->ctx, gate, up, kind); }
  Value Add(Value a, Value b) { return b_->add(b_->ctx, a, b); }
  Value Mul(Value a, Value b) { return b_->mul(b_->ctx, a, b); }
  Value Scale(Value x, double factor) { return b_->scale(b_->ctx, x, factor); }
  // Elements [begin, end) of each of n_heads equal parts of the width.
  Value Slice(Value x, uint32_t n_heads, uint32_t begin, uint32_t end) {
    return b_->slice(b_->ctx, x, n_heads, begin, end);
  }
  // Head by head; see retort_builder_v1.concat for inputs of one head.
  Value Concat(std::initializer_list<Value> in, uint32_t n_heads) {
    return b_->concat(b_->ctx, in.begin(), static_cast<uint32_t>(in.size()), n_heads);
  }
  // x [T,D], router_logits [T,E] -> [T,D]
  Value Moe(Value x, Value router_logits, const retort_moe_spec& spec) {
    return b_->moe(b_->ctx, x, router_logits, &spec);
  }
  // A weight as an input of Custom, Add or Mul.
  Value ValueOf(Param weight) { return b_->value_of(b_->ctx, weight); }
  // A node of op plugin op_id; attributes: its config, a JSON object. Gives output 0.
  Value Custom(const char* op_id, std::initializer_list<Value> in, uint32_t n_out = 1,
               std::string_view attributes = {}) {
    return b_->custom(b_->ctx, op_id, in.begin(), static_cast<uint32_t>(in.size()), n_out,
                      ToStr(attributes));
  }
  Value OutputOf(Value custom, uint32_t index) { return b_->output_of(b_->ctx, custom, index); }
  void Block(uint32_t index) { b_->block(b_->ctx, index); }
  // The end: hidden [T,D], head [V,D] (the embedding when tied).
  void Result(Value hidden, Param head_VD, double logit_scale = 1, double logit_soft_cap = 0) {
    b_->result(b_->ctx, hidden, head_VD, logit_scale, logit_soft_cap);
  }

 private:
  const retort_builder_v1* b_;
};

namespace internal {

template <class T>
class FamilyInstance final : public Instance {
 public:
  explicit FamilyInstance(const Config& config) : family_(config), host_(config.host()) {}
  const void* GetInterface(std::string_view id) override {
    return id == RETORT_FAMILY_INTERFACE ? &table_ : nullptr;
  }

 private:
  static FamilyInstance& Of(retort_instance* p) {
    return static_cast<FamilyInstance&>(Instance::Of(p));
  }
  static retort_status Match(retort_instance* p, const retort_call* call, retort_str config,
                             int32_t* score) noexcept {
    return Guard(call,
                 [&] { *score = Of(p).family_.Match(Of(p).host_.Parse(ToView(config))->root()); });
  }
  static retort_status Build(retort_instance* p, const retort_call* call, retort_str config,
                             const retort_builder_v1* builder) noexcept {
    return Guard(call, [&] {
      GraphBuilder graph(builder);
      Of(p).family_.Build(Of(p).host_.Parse(ToView(config))->root(), graph);
    });
  }
  static retort_status Describe(retort_instance* p, const retort_call* call, retort_str config,
                                const retort_sink* sink) noexcept {
    return Guard(call, [&] {
      std::string text = "{}";
      if constexpr (requires(T & t, const JsonValue& c) { t.Describe(c); }) {
        text = Of(p).family_.Describe(Of(p).host_.Parse(ToView(config))->root());
      }
      WriteAll(*sink, text);
    });
  }

  T family_;
  Host host_;
  retort_family_v1 table_ = {sizeof(retort_family_v1), 0, Match, Build, Describe};
};

}  // namespace internal
}  // namespace retort::sdk

#define RETORT_FAMILY(ID, CLASS, SUMMARY)                                                     \
  RETORT_SDK_REGISTER(RETORT_KIND_FAMILY, ID, ::retort::sdk::internal::FamilyInstance<CLASS>, \
                      SUMMARY, R"({"type": "object", "properties": {}})")

#endif  // RETORT_SDK_FAMILY_H_
