// The families: graphs from config.json by the names and shapes of transformers.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "core/graph/graph.h"
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

TEST(Families, MatchTheirModelTypeOnly) {
  const std::map<std::string, const char*> types = {
      {"llama", "llama"}, {"qwen2", "qwen2"}, {"qwen3", "qwen3"}};
  for (const char* id : {"llama", "qwen2", "qwen3"}) {
    const PluginInstance family = Make("family", id, "");
    for (const char* type : {"llama", "qwen2", "qwen3", "qwen3_moe", "gpt2"}) {
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
