// The families: graphs from config.json by the names and shapes of transformers.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/graph/graph.h"
#include "core/graph/rope.h"
#include "retort/abi/draft/family.h"
#include "tests/unit/plugins/harness.h"

namespace retort::host {
namespace {

using testing::HasSubstr;

const retort_family_v1* TableOf(const PluginInstance& family) {
  return static_cast<const retort_family_v1*>(family.interface(RETORT_FAMILY_INTERFACE));
}

Result<graph::Graph> Build(const char* id, const std::string& config) {
  const PluginInstance family = Make("family", id, "");
  graph::Builder builder(id);
  PluginCall call(family.name());
  RETORT_RETURN_IF_ERROR(call.End(
      TableOf(family)->build(family.get(), call.Begin(), ToStr(config), builder.table()), "build"));
  return builder.Finish();
}

// A small config with `extra` members.
std::string Config(const std::string& type, const std::string& extra) {
  return R"({"model_type": ")" + type + R"(", "vocab_size": 100, "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64)" +
         (extra.empty() ? "" : ", " + extra) + "}";
}

std::map<std::string, std::vector<int64_t>> ShapesOf(const graph::Graph& graph) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const graph::Param& p : graph.params) shapes[p.name] = p.shape;
  return shapes;
}

std::vector<const graph::Node*> NodesOf(const graph::Graph& graph, graph::Op op) {
  std::vector<const graph::Node*> nodes;
  for (const graph::Node& node : graph.nodes) {
    if (node.op == op) nodes.push_back(&node);
  }
  return nodes;
}

constexpr const char* kFamilies[] = {"llama",     "qwen2",     "qwen3",  "mistral",
                                     "olmo2",     "gemma2",    "phi3",   "gemma3_text",
                                     "qwen2_moe", "qwen3_moe", "mixtral"};

TEST(Families, MatchTheirModelTypeOnly) {
  for (const char* id : kFamilies) {
    const PluginInstance family = Make("family", id, "");
    std::vector<const char*> types(std::begin(kFamilies), std::end(kFamilies));
    types.insert(types.end(), {"qwen3_next", "gemma", "gemma3", "phi", "olmo", "gpt2"});
    for (const char* type : types) {
      int32_t score = -1;
      PluginCall call("family");
      const std::string config = Config(type, "");
      ASSERT_EQ(TableOf(family)->match(family.get(), call.Begin(), ToStr(config), &score),
                RETORT_OK);
      EXPECT_EQ(score > 0, std::string(id) == type) << id << " " << type;
    }
  }
}

TEST(Llama, ParamsHaveTransformersNamesAndShapes) {
  const graph::Graph g = Build("llama", Config("llama", "")).value();
  const auto shapes = ShapesOf(g);
  EXPECT_EQ(g.n_blocks, 3);
  EXPECT_EQ(g.n_layers, 3);
  EXPECT_EQ(shapes.size(), 3u + 3 * 9);
  using V = std::vector<int64_t>;
  EXPECT_EQ(shapes.at("model.embed_tokens.weight"), (V{100, 32}));
  EXPECT_EQ(shapes.at("lm_head.weight"), (V{100, 32}));
  EXPECT_EQ(shapes.at("model.norm.weight"), (V{32}));
  const std::string layer = "model.layers.2.";
  EXPECT_EQ(shapes.at(layer + "input_layernorm.weight"), (V{32}));
  EXPECT_EQ(shapes.at(layer + "self_attn.q_proj.weight"), (V{32, 32}));
  EXPECT_EQ(shapes.at(layer + "self_attn.k_proj.weight"), (V{16, 32}));
  EXPECT_EQ(shapes.at(layer + "self_attn.v_proj.weight"), (V{16, 32}));
  EXPECT_EQ(shapes.at(layer + "self_attn.o_proj.weight"), (V{32, 32}));
  EXPECT_EQ(shapes.at(layer + "post_attention_layernorm.weight"), (V{32}));
  EXPECT_EQ(shapes.at(layer + "mlp.gate_proj.weight"), (V{48, 32}));
  EXPECT_EQ(shapes.at(layer + "mlp.up_proj.weight"), (V{48, 32}));
  EXPECT_EQ(shapes.at(layer + "mlp.down_proj.weight"), (V{32, 48}));
}

TEST(Llama, TiedHeadIsTheEmbedding) {
  const graph::Graph g = Build("llama", Config("llama", R"("tie_word_embeddings": true)")).value();
  EXPECT_EQ(g.params[static_cast<size_t>(g.head)].name, "model.embed_tokens.weight");
  EXPECT_FALSE(ShapesOf(g).contains("lm_head.weight"));
}

TEST(Llama, BiasesByConfig) {
  const graph::Graph g =
      Build("llama", Config("llama", R"("attention_bias": true, "mlp_bias": true)")).value();
  const auto shapes = ShapesOf(g);
  EXPECT_TRUE(shapes.contains("model.layers.0.self_attn.o_proj.bias"));
  EXPECT_EQ(shapes.at("model.layers.0.self_attn.k_proj.bias"), std::vector<int64_t>{16});
  EXPECT_EQ(shapes.at("model.layers.0.mlp.down_proj.bias"), std::vector<int64_t>{32});
}

TEST(Llama, HeadDimEpsThetaAndDefaults) {
  const graph::Graph g = Build("llama", Config("llama", R"("head_dim": 10, "rms_norm_eps": 1e-5,
      "rope_theta": 5e5, "num_key_value_heads_": 1)"))
                             .value();
  EXPECT_EQ(ShapesOf(g).at("model.layers.0.self_attn.q_proj.weight"),
            (std::vector<int64_t>{40, 32}));
  EXPECT_EQ(NodesOf(g, graph::Op::kRmsNorm)[0]->eps, 1e-5);
  const graph::RopeSpec& rope = NodesOf(g, graph::Op::kRope)[0]->rope;
  EXPECT_EQ(rope.theta, 5e5);
  EXPECT_EQ(rope.rotary_dim, 10);
  EXPECT_EQ(rope.max_positions, 64);
  EXPECT_EQ(rope.layout, RETORT_ROPE_HALVES);
  EXPECT_EQ(rope.scaling_json, "");
}

TEST(Llama, RopeScalingInBothSpellings) {
  const graph::Graph old = Build("llama", Config("llama", R"("rope_theta": 1e4,
      "rope_scaling": {"type": "linear", "factor": 4.0})"))
                               .value();
  EXPECT_EQ(NodesOf(old, graph::Op::kRope)[0]->rope.scaling_json,
            R"({"type":"linear","factor":4.0})");
  const graph::Graph now = Build("llama", Config("llama", R"("rope_parameters":
      {"rope_theta": 7e5, "rope_type": "default"})"))
                               .value();
  EXPECT_EQ(NodesOf(now, graph::Op::kRope)[0]->rope.theta, 7e5);
  EXPECT_EQ(NodesOf(now, graph::Op::kRope)[0]->rope.scaling_json, "");
}

TEST(Qwen2, BiasOnQueryKeyValueOnly) {
  const graph::Graph g = Build("qwen2", Config("qwen2", "")).value();
  const auto shapes = ShapesOf(g);
  for (const char* name : {"q", "k", "v"}) {
    EXPECT_TRUE(shapes.contains("model.layers.1.self_attn." + std::string(name) + "_proj.bias"));
  }
  EXPECT_FALSE(shapes.contains("model.layers.1.self_attn.o_proj.bias"));
  EXPECT_TRUE(NodesOf(g, graph::Op::kHeadNorm).empty());
}

TEST(Qwen3, HeadNormsBeforeRope) {
  const graph::Graph g = Build("qwen3", Config("qwen3", R"("head_dim": 16)")).value();
  const auto shapes = ShapesOf(g);
  EXPECT_EQ(shapes.at("model.layers.0.self_attn.q_norm.weight"), std::vector<int64_t>{16});
  EXPECT_EQ(shapes.at("model.layers.0.self_attn.k_norm.weight"), std::vector<int64_t>{16});
  EXPECT_FALSE(shapes.contains("model.layers.0.self_attn.q_proj.bias"));
  for (const graph::Node* rope : NodesOf(g, graph::Op::kRope)) {
    const int32_t producer = g.values[static_cast<size_t>(rope->in[0])].producer;
    EXPECT_EQ(g.nodes[static_cast<size_t>(producer)].op, graph::Op::kHeadNorm);
  }
  const graph::Graph by_default = Build("qwen3", Config("qwen3", "")).value();
  EXPECT_EQ(ShapesOf(by_default).at("model.layers.0.self_attn.k_proj.weight"),
            (std::vector<int64_t>{256, 32}));
}

std::vector<int64_t> WindowsOf(const graph::Graph& g) {
  std::vector<int64_t> windows;
  for (const graph::Node* node : NodesOf(g, graph::Op::kAttention)) {
    windows.push_back(node->attention.window);
  }
  return windows;
}

TEST(Qwen, SlidingWindows) {
  using testing::ElementsAre;
  const std::string window = R"("use_sliding_window": true, "sliding_window": 8)";
  EXPECT_THAT(
      WindowsOf(Build("qwen2", Config("qwen2", window + R"(, "max_window_layers": 1)")).value()),
      ElementsAre(0, 8, 8));
  EXPECT_THAT(WindowsOf(Build("qwen3", Config("qwen3", window + R"(, "layer_types":
      ["sliding_attention", "full_attention", "full_attention"])"))
                            .value()),
              ElementsAre(8, 0, 0));
  EXPECT_THAT(WindowsOf(Build("qwen2", Config("qwen2", R"("sliding_window": 8)")).value()),
              ElementsAre(0, 0, 0));
}

TEST(Mistral, OneWindowForAllLayers) {
  using testing::ElementsAre;
  const auto windows = [](const std::string& extra) {
    return WindowsOf(Build("mistral", Config("mistral", extra)).value());
  };
  EXPECT_THAT(windows(R"("sliding_window": 8)"), ElementsAre(8, 8, 8));
  EXPECT_THAT(windows(R"("sliding_window": null)"), ElementsAre(0, 0, 0));
  EXPECT_THAT(windows(""), ElementsAre(4096, 4096, 4096));  // transformers' default
}

graph::Op ProducerOf(const graph::Graph& g, int32_t value) {
  return g.nodes[static_cast<size_t>(g.values[static_cast<size_t>(value)].producer)].op;
}

TEST(Olmo2, NormsStandBehindAndSpanAllHeads) {
  const graph::Graph g = Build("olmo2", Config("olmo2", "")).value();
  const auto shapes = ShapesOf(g);
  EXPECT_EQ(shapes.at("model.layers.1.self_attn.q_norm.weight"), std::vector<int64_t>{32});
  EXPECT_EQ(shapes.at("model.layers.1.self_attn.k_norm.weight"), std::vector<int64_t>{16});
  EXPECT_FALSE(shapes.contains("model.layers.0.input_layernorm.weight"));
  EXPECT_TRUE(shapes.contains("model.layers.0.post_feedforward_layernorm.weight"));
  for (const graph::Node* add : NodesOf(g, graph::Op::kAdd)) {
    EXPECT_EQ(ProducerOf(g, add->in[1]), graph::Op::kRmsNorm);
  }
  EXPECT_EQ(NodesOf(g, graph::Op::kRmsNorm)[0]->eps, 1e-5);
}

TEST(Gemma2, CapsScalesOffsetsAndWindows) {
  const graph::Graph g =
      Build("gemma2", Config("gemma2", R"("head_dim": 8, "query_pre_attn_scalar": 16)")).value();
  EXPECT_THAT(WindowsOf(g), testing::ElementsAre(4096, 0, 4096));
  EXPECT_EQ(g.logit_soft_cap, 30);
  EXPECT_EQ(g.params[static_cast<size_t>(g.head)].name, "model.embed_tokens.weight");
  EXPECT_DOUBLE_EQ(NodesOf(g, graph::Op::kEmbed)[0]->scale, std::sqrt(32.0));
  for (const graph::Node* node : NodesOf(g, graph::Op::kAttention)) {
    EXPECT_EQ(node->attention.scale, 0.25);
    EXPECT_EQ(node->attention.soft_cap, 50);
  }
  for (const graph::Node* norm : NodesOf(g, graph::Op::kRmsNorm)) {
    EXPECT_EQ(norm->weight_offset, 1);
  }
  EXPECT_EQ(NodesOf(g, graph::Op::kRmsNorm).size(), 3u * 4 + 1);
  EXPECT_EQ(NodesOf(g, graph::Op::kGated)[0]->activation, RETORT_ACTIVATION_GELU_TANH);
  const graph::Graph bare = Build("gemma2", Config("gemma2", R"("attn_logit_softcapping": null,
          "final_logit_softcapping": null, "hidden_activation": "gelu", "hidden_act": "silu")"))
                                .value();
  EXPECT_EQ(bare.logit_soft_cap, 0);
  EXPECT_EQ(NodesOf(bare, graph::Op::kAttention)[0]->attention.soft_cap, 0);
  EXPECT_EQ(NodesOf(bare, graph::Op::kGated)[0]->activation, RETORT_ACTIVATION_GELU);
}

TEST(Phi3, ParamsAreRowsOfFusedTensors) {
  const graph::Graph g =
      Build("phi3", Config("phi3", R"("partial_rotary_factor": 0.5, "sliding_window": 9)")).value();
  std::map<std::string, std::pair<int64_t, int64_t>> rows;
  for (const graph::Param& p : g.params) {
    if (p.sources[0].checkpoint_name == p.name) continue;
    EXPECT_EQ(p.sources.size(), 1U);
    rows[p.name] = {p.sources[0].row_begin, p.sources[0].row_end};
  }
  EXPECT_EQ(rows.size(), 3u * 5);
  using Rows = std::pair<int64_t, int64_t>;
  const std::string layer = "model.layers.1.";
  EXPECT_EQ(rows.at(layer + "self_attn.q_proj.weight"), Rows(0, 32));
  EXPECT_EQ(rows.at(layer + "self_attn.k_proj.weight"), Rows(32, 48));
  EXPECT_EQ(rows.at(layer + "self_attn.v_proj.weight"), Rows(48, 64));
  EXPECT_EQ(rows.at(layer + "mlp.gate_proj.weight"), Rows(0, 48));
  EXPECT_EQ(rows.at(layer + "mlp.up_proj.weight"), Rows(48, 96));
  EXPECT_EQ(NodesOf(g, graph::Op::kRope)[0]->rope.rotary_dim, 4);
  EXPECT_THAT(WindowsOf(g), testing::ElementsAre(9, 9, 9));
  EXPECT_THAT(WindowsOf(Build("phi3", Config("phi3", "")).value()), testing::ElementsAre(0, 0, 0));
}

// One rope node for q and one for k in each layer.
std::vector<double> ThetasOf(const graph::Graph& g) {
  std::vector<double> thetas;
  for (const graph::Node* node : NodesOf(g, graph::Op::kRope)) thetas.push_back(node->rope.theta);
  return thetas;
}

TEST(Phi3, LongropeGoesByTheModelsOriginalLength) {
  const std::string factors = R"("short_factor": [1, 1, 1, 1], "long_factor": [2, 2, 2, 2])";
  for (const char* type : {"longrope", "su", "yarn"}) {
    for (const char* key : {"rope_scaling", "rope_parameters"}) {
      const std::string scaling = "\"" + std::string(key) + R"(": {"type": ")" + type + "\", " +
                                  factors + R"(, "original_max_position_embeddings": 7})";
      const graph::Graph g =
          Build("phi3", Config("phi3", scaling + R"(, "original_max_position_embeddings": 48)"))
              .value();
      EXPECT_THAT(graph::StaleLengths(g), testing::ElementsAre(48)) << type;
      // Absent, it is transformers' default for this family.
      const graph::Graph usual = Build("phi3", Config("phi3", scaling)).value();
      EXPECT_THAT(graph::StaleLengths(usual), testing::ElementsAre(4096)) << type;
    }
  }
}

TEST(Llama, AnOriginalLengthBesideTheScalingCounts) {
  const auto text = [](const std::string& extra) {
    const graph::Graph g = Build("llama", Config("llama", extra)).value();
    return NodesOf(g, graph::Op::kRope)[0]->rope.scaling_json;
  };
  const std::string yarn =
      R"("rope_scaling": {"rope_type": "yarn", "factor": 2, "original_max_position_embeddings": 8})";
  EXPECT_THAT(text(yarn), HasSubstr("\"original_max_position_embeddings\":8"));
  EXPECT_THAT(text(yarn + R"(, "original_max_position_embeddings": 16)"),
              testing::AllOf(HasSubstr("\"original_max_position_embeddings\":16"),
                             testing::Not(HasSubstr(":8")), HasSubstr("\"factor\":2")));
}

const graph::Param& ParamOf(const graph::Graph& g, const std::string& name) {
  const auto same = [&](const graph::Param& p) { return p.name == name; };
  return *std::find_if(g.params.begin(), g.params.end(), same);
}

TEST(Qwen2Moe, SomeLayersHaveExpertsAndASharedOne) {
  const std::string sizes = R"("num_experts": 4, "num_experts_per_tok": 3,
      "moe_intermediate_size": 6, "shared_expert_intermediate_size": 10)";
  const graph::Graph g = Build("qwen2_moe", Config("qwen2_moe", sizes + R"(,
      "mlp_only_layers": [1], "norm_topk_prob": true, "output_router_logits": true,
      "router_aux_loss_coef": 0.5)"))
                             .value();
  const auto layers = NodesOf(g, graph::Op::kMoe);
  ASSERT_EQ(layers.size(), 2U);
  EXPECT_EQ(layers[0]->moe.n_experts, 4);
  EXPECT_EQ(layers[0]->moe.top_k, 3);
  EXPECT_EQ(layers[0]->moe.hidden, 6);
  EXPECT_TRUE(layers[0]->moe.norm_top_k);
  EXPECT_EQ(layers[0]->moe.aux_coef, 0.5);
  const auto shapes = ShapesOf(g);
  EXPECT_THAT(shapes.at("model.layers.1.mlp.up_proj.weight"), testing::ElementsAre(48, 32));
  EXPECT_THAT(shapes.at("model.layers.2.mlp.shared_expert.up_proj.weight"),
              testing::ElementsAre(10, 32));
  EXPECT_THAT(shapes.at("model.layers.2.mlp.shared_expert_gate.weight"),
              testing::ElementsAre(1, 32));
  const graph::Param& stack = ParamOf(g, "model.layers.2.mlp.experts.gate_up_proj");
  EXPECT_THAT(stack.shape, testing::ElementsAre(4, 12, 32));
  ASSERT_EQ(stack.sources.size(), 8U);
  EXPECT_EQ(stack.sources[3].checkpoint_name, "model.layers.2.mlp.experts.1.up_proj.weight");
  EXPECT_EQ(stack.sources[3].row_end, 6);
  // The loss is left alone unless the config asks.
  const graph::Graph plain = Build("qwen2_moe", Config("qwen2_moe", sizes + R"(,
      "decoder_sparse_step": 2, "router_aux_loss_coef": 0.5)"))
                                 .value();
  ASSERT_EQ(NodesOf(plain, graph::Op::kMoe).size(), 1U);
  EXPECT_EQ(NodesOf(plain, graph::Op::kMoe)[0]->moe.aux_coef, 0);
}

TEST(Qwen3Moe, TheNumberOfExpertsHasTwoNames) {
  for (const char* key : {"num_experts", "num_local_experts"}) {
    const std::string sizes = "\"" + std::string(key) +
                              R"(": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 4,
                                 "head_dim": 8)";
    const graph::Graph g = Build("qwen3_moe", Config("qwen3_moe", sizes)).value();
    ASSERT_EQ(NodesOf(g, graph::Op::kMoe).size(), 3U);
    EXPECT_EQ(NodesOf(g, graph::Op::kMoe)[0]->moe.n_experts, 6);
    EXPECT_FALSE(NodesOf(g, graph::Op::kMoe)[0]->moe.norm_top_k);
  }
}

TEST(Mixtral, ReadsTheCheckpointsNames) {
  const graph::Graph g = Build("mixtral", Config("mixtral", R"("num_local_experts": 3,
      "sliding_window": 5)"))
                             .value();
  const graph::Param& down = ParamOf(g, "model.layers.0.mlp.experts.down_proj");
  EXPECT_THAT(down.shape, testing::ElementsAre(3, 32, 48));
  EXPECT_EQ(down.sources[2].checkpoint_name, "model.layers.0.block_sparse_moe.experts.2.w2.weight");
  const graph::Param& both = ParamOf(g, "model.layers.0.mlp.experts.gate_up_proj");
  EXPECT_EQ(both.sources[0].checkpoint_name, "model.layers.0.block_sparse_moe.experts.0.w1.weight");
  EXPECT_EQ(both.sources[1].checkpoint_name, "model.layers.0.block_sparse_moe.experts.0.w3.weight");
  EXPECT_TRUE(NodesOf(g, graph::Op::kMoe)[0]->moe.norm_top_k);
  EXPECT_THAT(WindowsOf(g), testing::ElementsAre(5, 5, 5));
  EXPECT_THAT(ThetasOf(g), testing::Each(1e6));
}

TEST(Gemma3Text, TwoRopesInBothSpellings) {
  using testing::ElementsAre;
  const graph::Graph old = Build("gemma3_text", Config("gemma3_text", R"("head_dim": 8,
      "sliding_window": 16, "sliding_window_pattern": 3, "rope_theta": 5e5,
      "rope_local_base_freq": 2e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0})"))
                               .value();
  EXPECT_THAT(WindowsOf(old), ElementsAre(16, 16, 0));
  EXPECT_THAT(ThetasOf(old), ElementsAre(2e4, 2e4, 2e4, 2e4, 5e5, 5e5));
  EXPECT_EQ(NodesOf(old, graph::Op::kRope)[0]->rope.scaling_json, "");
  EXPECT_THAT(NodesOf(old, graph::Op::kRope)[4]->rope.scaling_json, HasSubstr("linear"));
  const graph::Graph now = Build("gemma3_text", Config("gemma3_text", R"("layer_types":
      ["full_attention", "sliding_attention", "full_attention"], "rope_parameters":
      {"full_attention": {"rope_type": "default", "rope_theta": 3e5}})"))
                               .value();
  EXPECT_THAT(WindowsOf(now), ElementsAre(0, 4096, 0));
  EXPECT_THAT(ThetasOf(now), ElementsAre(3e5, 3e5, 1e4, 1e4, 3e5, 3e5));
  EXPECT_EQ(NodesOf(now, graph::Op::kHeadNorm)[0]->weight_offset, 1);
}

void ExpectFamilyRefuses(const char* id, const std::string& extra, const std::string& part,
                         Code code = Code::kInvalidArgument) {
  const auto graph = Build(id, Config(id, extra));
  ASSERT_FALSE(graph.ok()) << id << " " << extra;
  EXPECT_EQ(graph.status().code(), code);
  EXPECT_THAT(graph.status().message(), HasSubstr(part));
}

TEST(Families, WhatTheyCannotDoIsRefusedByName) {
  ExpectFamilyRefuses("mistral", R"("layer_types": ["full_attention"])", "layer_types: ");
  ExpectFamilyRefuses("mistral", R"("sliding_window": 0)", "sliding_window: is 0");
  ExpectFamilyRefuses("llama", R"("rope_parameters": {"full_attention": {"rope_theta": 1e4}})",
                      "rope_parameters: differ by layer type");
  ExpectFamilyRefuses("gemma2", R"("use_bidirectional_attention": true)",
                      "use_bidirectional_attention: ");
  ExpectFamilyRefuses("gemma2", R"("sliding_window": null)", "sliding_window: is missing");
  ExpectFamilyRefuses("gemma2", R"("final_logit_softcapping": -1)", "final_logit_softcapping: ");
  ExpectFamilyRefuses("gemma2", R"("query_pre_attn_scalar": 0)", "query_pre_attn_scalar: ");
  ExpectFamilyRefuses("gemma2", R"("hidden_activation": "swoosh")", "hidden_activation: \"swoosh");
  ExpectFamilyRefuses("gemma2", R"("layer_types": ["full_attention", "linear_attention", "x"])",
                      "layer_types: \"linear_attention\" is not known");
  ExpectFamilyRefuses("phi3", R"("partial_rotary_factor": 0.2)", "partial_rotary_factor: ");
  ExpectFamilyRefuses("phi3", R"("rope_scaling": {"type": "linear", "factor": 2})",
                      "rope_scaling: type \"linear\"", Code::kUnimplemented);
  ExpectFamilyRefuses("mixtral", R"("router_jitter_noise": 0.1)",
                      "router_jitter_noise: ", Code::kUnimplemented);
  ExpectFamilyRefuses("qwen3_moe", R"("num_experts": 4, "num_experts_per_tok": 5)",
                      "num_experts_per_tok: is 5, but there are 4 experts");
  ExpectFamilyRefuses("gemma3_text", R"("attn_logit_softcapping": 50)", "attn_logit_softcapping: ");
  ExpectFamilyRefuses("gemma3_text", R"("rope_parameters": {"rope_theta": 1e4})",
                      "rope_parameters: must have an object for each type");
}

void ExpectRefused(const std::string& config, const std::string& part) {
  const auto graph = Build("llama", config);
  ASSERT_FALSE(graph.ok());
  EXPECT_EQ(graph.status().code(), Code::kInvalidArgument);
  EXPECT_THAT(graph.status().message(), HasSubstr(part));
}

TEST(Families, BadConfigsNameTheirKey) {
  ExpectRefused(R"({"vocab_size": 10})", "/hidden_size: missing");
  ExpectRefused("{", "");
  ExpectRefused(Config("llama", R"("head_dim": 7)"), "head_dim: 7 is odd");
  ExpectRefused(Config("llama", R"("head_dim": -2)"), "head_dim: is -2");
  ExpectRefused(Config("llama", R"("hidden_act": "swoosh")"), "\"swoosh\" is not known");
  ExpectRefused(Config("llama", R"("rope_theta": 0)"), "rope_theta: must be above 0");
  ExpectRefused(Config("llama", R"("rms_norm_eps": "small")"), "/rms_norm_eps: is not a number");
  std::string heads = Config("llama", "");
  heads.replace(heads.find("\"num_key_value_heads\": 2"), 24, "\"num_key_value_heads\": 3,");
  heads.replace(heads.find(",,"), 2, ",");
  ExpectRefused(heads, "num_key_value_heads: 3 does not divide");
}

TEST(Families, DescribeIsJson) {
  const PluginInstance family = Make("family", "llama", "");
  std::string text;
  // One byte at a time: short counts are legal.
  const retort_sink sink = {&text, [](void* ctx, const void* data, uint64_t n) {
                              static_cast<std::string*>(ctx)->append(static_cast<const char*>(data),
                                                                     n > 0 ? 1 : 0);
                              return int64_t{n > 0 ? 1 : 0};
                            }};
  PluginCall call("family llama");
  const std::string config = Config("llama", "");
  ASSERT_EQ(TableOf(family)->describe(family.get(), call.Begin(), ToStr(config), &sink), RETORT_OK);
  EXPECT_THAT(text, HasSubstr("lora_targets"));
  EXPECT_EQ(text.back(), '}');
}

}  // namespace
}  // namespace retort::host
