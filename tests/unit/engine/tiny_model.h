// A small decoder with everything that Llama, Qwen2 and Qwen3 need at once (grouped heads, biases,
// head norms, tied or separate head), random weights in f32 or f64, random packed documents, and
// a cross-entropy loss written out plainly behind the C table.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/rng.h"
#include "core/base/tensor.h"
#include "core/engine/engine.h"
#include "core/engine/inference.h"
#include "core/graph/graph.h"
#include "core/graph/value_head.h"
#include "tests/unit/engine/test_ops.h"

namespace retort::engine::test {

struct TinySpec {
  int64_t layers = 2, width = 16, heads = 4, kv_heads = 2, head_dim = 4, hidden = 24, vocab = 29;
  bool tied = true, branch_first = false;  // branch_first: add(branch, residual)
  double logit_scale = 1, soft_cap = 0;
  uint32_t frozen_embedding = 0;
  bool custom_ops = false;  // tanh, decay and mix (with a weight of its own) after each MLP
  uint32_t frozen_mix = 0;
  uint32_t frozen_rows = 0;                       // flags of the params of the row ops
  bool experts = false;                           // in the place of MLPs, one of them shared
  double aux_coef = 0;                            // of their load-balancing loss
  bool value_head = false, reward_model = false;  // the latter without an LM head
  bool row_ops = false;  // layer_norm, slice, concat, add and mul before each block
};

// Writes the graph through the builder's C table, as a family plugin does.
class TinyFamily {
 public:
  explicit TinyFamily(const TinySpec& spec) : spec_(spec), table_(builder_.table()) {}

  graph::Graph Build() {
    const retort_param embedding =
        Param("embed.weight", {spec_.vocab, spec_.width}, spec_.frozen_embedding);
    retort_value x = table_->embed(table_->ctx, embedding, 1);
    for (int64_t i = 0; i < spec_.layers; ++i) x = Block(x, static_cast<uint32_t>(i));
    x = Norm(x, "norm.weight");
    const retort_param head =
        spec_.tied ? embedding : Param("head.weight", {spec_.vocab, spec_.width});
    table_->result(table_->ctx, x, head, spec_.logit_scale, spec_.soft_cap);
    auto graph = builder_.Finish();
    EXPECT_TRUE(graph.ok()) << graph.status().ToString();
    if (spec_.value_head) {
      EXPECT_TRUE(graph::AddValueHead(*graph).ok());
    }
    if (spec_.reward_model) graph::DropLmHead(*graph);
    return std::move(graph).value();
  }

 private:
  retort_param Param(const std::string& name, std::vector<int64_t> shape, uint32_t flags = 0) {
    retort_param_spec spec{};
    spec.struct_size = sizeof(spec);
    spec.flags = flags;
    spec.name = name.c_str();
    spec.shape = shape.data();
    spec.ndim = static_cast<uint32_t>(shape.size());
    spec.init = RETORT_INIT_NORMAL;
    spec.init_value = 0.02;
    return table_->param(table_->ctx, &spec);
  }
  retort_value Linear(retort_value x, const std::string& name, int64_t out, int64_t in,
                      bool bias = false) {
    const retort_param weight = Param(name + ".weight", {out, in});
    return table_->linear(table_->ctx, x, weight,
                          bias ? Param(name + ".bias", {out}) : retort_param{0});
  }
  retort_value Norm(retort_value x, const std::string& name) {
    return table_->rms_norm(table_->ctx, x, Param(name, {spec_.width}), 1e-5, 0);
  }
  retort_value Rotated(retort_value x, const std::string& name, int64_t heads) {
    const auto dim = static_cast<uint32_t>(spec_.head_dim);
    x = table_->head_norm(table_->ctx, x, Param(name, {spec_.head_dim}), dim, 1e-5, 0);
    retort_rope_spec rope{};
    rope.struct_size = sizeof(rope);
    rope.rotary_dim = dim;
    rope.max_positions = 64;
    rope.theta = 100;
    return table_->rope(table_->ctx, x, static_cast<uint32_t>(heads), &rope);
  }
  retort_value Sum(retort_value residual, retort_value branch) {
    return spec_.branch_first ? table_->add(table_->ctx, branch, residual)
                              : table_->add(table_->ctx, residual, branch);
  }
  retort_value Block(retort_value x, uint32_t index) {
    const std::string at = "layers." + std::to_string(index) + ".";
    const int64_t wide = spec_.heads * spec_.head_dim, narrow = spec_.kv_heads * spec_.head_dim;
    table_->block(table_->ctx, index);
    if (spec_.row_ops) x = RowOps(x, at);
    retort_value y = Norm(x, at + "input_norm.weight");
    retort_value q = Linear(y, at + "q", wide, spec_.width, true);
    retort_value k = Linear(y, at + "k", narrow, spec_.width, true);
    const retort_value v = Linear(y, at + "v", narrow, spec_.width, true);
    q = Rotated(q, at + "q_norm.weight", spec_.heads);
    k = Rotated(k, at + "k_norm.weight", spec_.kv_heads);
    retort_attention_spec attention{};
    attention.struct_size = sizeof(attention);
    attention.n_heads = static_cast<uint32_t>(spec_.heads);
    attention.n_kv_heads = static_cast<uint32_t>(spec_.kv_heads);
    attention.head_dim = static_cast<uint32_t>(spec_.head_dim);
    y = table_->attention(table_->ctx, q, k, v, index, &attention);
    x = Sum(x, Linear(y, at + "o", spec_.width, wide));
    y = Norm(x, at + "post_norm.weight");
    if (spec_.experts) return Sum(x, Experts(y, at));
    const retort_value gate = Linear(y, at + "gate", spec_.hidden, spec_.width);
    const retort_value up = Linear(y, at + "up", spec_.hidden, spec_.width);
    y = table_->gated(table_->ctx, gate, up, RETORT_ACTIVATION_SILU);
    if (spec_.custom_ops) y = CustomOps(y);
    return Sum(x, Linear(y, at + "down", spec_.width, spec_.hidden));
  }

  // 2 of 5, and one that every row takes, behind a gate.
  retort_value Experts(retort_value x, const std::string& at) {
    constexpr int64_t kExperts = 5, kHidden = 3;
    const retort_value logits = Linear(x, at + "router", kExperts, spec_.width);
    retort_moe_spec moe{};
    moe.struct_size = sizeof(moe);
    moe.flags = RETORT_MOE_NORM_TOP_K;
    moe.n_experts = kExperts;
    moe.top_k = 2;
    moe.gate_up = Param(at + "experts.gate_up", {kExperts, 2 * kHidden, spec_.width});
    moe.down = Param(at + "experts.down", {kExperts, spec_.width, kHidden});
    moe.aux_coef = spec_.aux_coef;
    const retort_value y = table_->moe(table_->ctx, x, logits, &moe);
    const retort_value gate = Linear(x, at + "shared.gate", spec_.hidden, spec_.width);
    const retort_value up = Linear(x, at + "shared.up", spec_.hidden, spec_.width);
    const retort_value h = table_->gated(table_->ctx, gate, up, RETORT_ACTIVATION_SILU);
    const retort_value shared = Linear(h, at + "shared.down", spec_.width, spec_.hidden);
    const retort_value open = table_->activation(
        table_->ctx, Linear(x, at + "open", 1, spec_.width), RETORT_ACTIVATION_SIGMOID);
    return table_->add(table_->ctx, y, table_->mul(table_->ctx, shared, open));
  }

  retort_value LayerNorm(retort_value x, const std::string& name, int64_t width, bool bias) {
    const uint32_t flags = spec_.frozen_rows;
    const retort_param w = Param(name + ".weight", {width}, flags);
    const retort_param b = bias ? Param(name + ".bias", {width}, flags) : retort_param{0};
    return table_->layer_norm(table_->ctx, x, w, b, 1e-3);
  }
  retort_value Slice(retort_value x, int64_t heads, int64_t begin, int64_t end) {
    const auto u32 = [](int64_t v) { return static_cast<uint32_t>(v); };
    return table_->slice(table_->ctx, x, u32(heads), u32(begin), u32(end));
  }
  retort_value Concat(std::vector<retort_value> in, int64_t heads) {
    return table_->concat(table_->ctx, in.data(), static_cast<uint32_t>(in.size()),
                          static_cast<uint32_t>(heads));
  }
  retort_value Rope(retort_value x, int64_t heads, int64_t dim) {
    retort_rope_spec rope{};
    rope.struct_size = sizeof(rope);
    rope.rotary_dim = static_cast<uint32_t>(dim);
    rope.max_positions = 64;
    rope.theta = 100;
    return table_->rope(table_->ctx, x, static_cast<uint32_t>(heads), &rope);
  }
  retort_value WeightOf(const std::string& name, int64_t size) {
    return table_->value_of(table_->ctx, Param(name, {size}, spec_.frozen_rows));
  }
  // Weights for every row and for all, on either side and one of them twice; sums that pass their
  // gradient on, and one whose operand has another reader; products with one number per row.
  retort_value Products(retort_value x, retort_value gates, const std::string& at, int64_t width) {
    const auto add = [&](retort_value a, retort_value b) { return table_->add(table_->ctx, a, b); };
    const auto mul = [&](retort_value a, retort_value b) { return table_->mul(table_->ctx, a, b); };
    const retort_value shift = WeightOf(at + "shift", width), gain = WeightOf(at + "gain", width);
    retort_value y = add(mul(gain, x), shift);
    y = add(add(shift, y), mul(y, WeightOf(at + "all", 1)));
    y = mul(y, Slice(gates, 1, 1, 2));
    const retort_value shifted = add(y, WeightOf(at + "last", width));
    y = add(mul(shifted, y), mul(x, gain));
    return add(y, mul(mul(x, x), Slice(gates, 1, 2, 3)));
  }
  // A sum with a weight whose gradient another value shares, while its operand is read again; and
  // one right before a norm, which must not be taken for a sum of rows.
  retort_value Tail(retort_value x, retort_value y, const std::string& at) {
    const retort_value gate = table_->activation(table_->ctx, y, RETORT_ACTIVATION_SIGMOID);
    y = table_->add(table_->ctx, y, WeightOf(at + "end", spec_.width));
    y = table_->mul(table_->ctx, Sum(x, y), gate);
    return table_->add(table_->ctx, y, WeightOf(at + "final", spec_.width));
  }
  // One value cut several times (overlapping, per head and flat), turned in place, one head put
  // into all, the same value twice in a concat, and one whose gradient has other writers.
  retort_value RowOps(retort_value x, const std::string& at) {
    const int64_t heads = spec_.heads, head = 7;
    retort_value y = LayerNorm(x, at + "rows_norm", spec_.width, true);
    const retort_value fused = Linear(y, at + "rows_in", heads * head + 2, spec_.width);
    const retort_value main = Slice(fused, 1, 0, heads * head);
    const retort_value shared = Rope(Slice(fused, 1, heads * head, heads * head + 2), 1, 2);
    const retort_value turned = Rope(Slice(main, heads, 0, 4), heads, 4);
    const retort_value kept = Slice(main, heads, 3, 7);
    y = Concat({kept, turned, shared, kept}, heads);
    y = LayerNorm(y, at + "rows_mid", heads * 14, false);
    y = Products(y, fused, at, heads * 14);
    y = Concat({y, x, shared, shared}, 1);
    y = Linear(y, at + "rows_out", spec_.width, heads * 14 + spec_.width + 4);
    return Tail(x, y, at);
  }

  retort_value Custom(const char* op, std::vector<retort_value> in, uint32_t n_out,
                      std::string_view attributes = {}) {
    return table_->custom(table_->ctx, op, in.data(), static_cast<uint32_t>(in.size()), n_out,
                          ToStr(attributes));
  }
  // Two outputs that meet again, an output that nobody reads, one weight in several nodes, and a
  // value that several nodes read.
  retort_value CustomOps(retort_value x) {
    if (mix_.id == 0) mix_ = Param("mix", {spec_.hidden}, spec_.frozen_mix);
    const retort_value w = table_->value_of(table_->ctx, mix_);
    const retort_value squashed = Custom("tanh", {x}, 1);
    retort_value run = Custom("decay", {squashed}, 1, R"({"a": 0.7})");
    run = Custom("carried", {run}, 1, R"({"a": -0.4})");
    const retort_value both = Custom("mix", {run, squashed, w}, 2);
    const retort_value sum =
        table_->add(table_->ctx, both, table_->output_of(table_->ctx, both, 1));
    const retort_value lone = Custom("mix", {sum, sum, w}, 2);
    return table_->add(table_->ctx, lone, x);
  }

  TinySpec spec_;
  retort_param mix_{0};
  graph::Builder builder_{"tiny", MakeTestOp};
  const retort_builder_v1* table_;
};

// Weights of type T: norms around 1, the rest small.
template <class T>
struct TinyModel {
  explicit TinyModel(const TinySpec& spec = {}, uint64_t seed = 1)
      : graph(TinyFamily(spec).Build()) {
    Rng rng(RngKey{0, seed});
    for (const graph::Param& param : graph.params) {
      const bool norm = (param.roles & RETORT_ROLE_NORM) != 0;
      std::vector<T>& values = storage.emplace_back(static_cast<size_t>(param.numel()));
      for (T& v : values) v = static_cast<T>((norm ? 1.0 : 0.0) + 0.3 * rng.Normal());
      views.push_back(TensorView::Contiguous(
          values.data(), sizeof(T) == 8 ? DType::kF64 : DType::kF32, param.shape));
    }
  }
  graph::Graph graph;
  std::vector<std::vector<T>> storage;
  std::vector<TensorView> views;
};

// Documents of the given lengths in one packed batch; every token predicts the
// next of its own document. Document d of a seed is the same whatever it is
// packed with: `first` is its number.
inline MicroBatch Documents(const std::vector<int32_t>& lengths, int64_t vocab, size_t first = 0) {
  MicroBatch batch;
  batch.cu_seqlens.push_back(0);
  for (size_t d = 0; d < lengths.size(); ++d) {
    Rng rng(RngKey{7, first + d});
    for (int32_t t = 0; t < lengths[d]; ++t) {
      batch.ids.push_back(static_cast<int32_t>(rng.Below(static_cast<uint64_t>(vocab))));
      batch.positions.push_back(t);
      batch.weight.push_back(1);
      batch.labels.push_back(-100);
      if (t > 1) batch.labels[batch.labels.size() - 2] = batch.ids.back();  // first: a prompt
    }
    batch.cu_seqlens.push_back(static_cast<int32_t>(batch.ids.size()));
  }
  return batch;
}

inline RowBatch RowsOf(const MicroBatch& batch) {
  return {.ids = batch.ids,
          .positions = batch.positions,
          .cu_seqlens = batch.cu_seqlens,
          .prefixes = batch.prefixes};
}

// Cross-entropy with the label's probability as aux, one row at a time in f64.
template <class T>
void CrossEntropyRow(const retort_token_loss_args& args, int64_t r) {
  T* z = static_cast<T*>(args.logits->data) + r * args.logits->strides[0];
  const int64_t vocab = args.logits->shape[1];
  const int64_t label = static_cast<const int64_t*>(args.labels->data)[r];
  const auto weight = static_cast<double>(static_cast<const T*>(args.weight->data)[r]);
  double total = 0;
  for (int64_t v = 0; v < vocab; ++v) total += std::exp(static_cast<double>(z[v]));
  const double logp = static_cast<double>(z[label]) - std::log(total);
  static_cast<T*>(args.loss->data)[r] = static_cast<T>(-logp);
  if (args.aux != nullptr) static_cast<T*>(args.aux->data)[r] = static_cast<T>(std::exp(logp));
  if ((args.flags & RETORT_TOKEN_WANT_GRAD) == 0) return;
  for (int64_t v = 0; v < vocab; ++v) {
    const double p = std::exp(static_cast<double>(z[v])) / total;
    z[v] = static_cast<T>(weight * (p - (v == label ? 1 : 0)));
  }
}

inline const retort_token_loss_v1* CrossEntropyTable() {
  static const std::array<const char*, 1> kAux = {"probability"};
  static const retort_loss_spec kSpec = {.struct_size = sizeof(retort_loss_spec),
                                         .flags = RETORT_LOSS_F64,
                                         .needs = 0,
                                         .optional = 0,
                                         .grain = RETORT_GRAIN_ROW,
                                         .n_aux = 1,
                                         .aux_names = kAux.data(),
                                         .scratch_per_row = 0,
                                         .teacher_temperature = 0,
                                         .teacher_top_k = 0,
                                         ._pad = 0};
  static const retort_token_loss_v1 kTable = {
      .struct_size = sizeof(retort_token_loss_v1),
      .flags = 0,
      .spec = [](retort_instance*) { return &kSpec; },
      .rows = [](retort_instance*, const retort_call*,
                 const retort_token_loss_args* args) -> retort_status {
        for (int64_t r = 0; r < args->logits->shape[0]; ++r) {
          if (args->logits->dtype.bits == 64) {
            CrossEntropyRow<double>(*args, r);
          } else {
            CrossEntropyRow<float>(*args, r);
          }
        }
        return RETORT_OK;
      }};
  return &kTable;
}

inline TokenLoss CrossEntropy(const std::string& name = "ce", double weight = 1) {
  return {.name = name, .table = CrossEntropyTable(), .instance = nullptr, .weight = weight};
}

}  // namespace retort::engine::test
