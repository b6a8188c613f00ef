// Which modules get adapters, under which names, and what is refused.
// SPDX-License-Identifier: Apache-2.0
#include "core/graph/lora.h"

#include <algorithm>

#include "tests/unit/adapters/adapted_model.h"

namespace retort::engine::test {
namespace {

using graph::Graph;
using graph::LoraSpec;

Graph Tiny(bool fused = false) {
  const TinySpec spec{.layers = 2};
  Graph graph = TinyFamily(spec).Build();
  if (fused) Fuse(graph, spec);
  return graph;
}

std::vector<std::string> Adapted(const LoraSpec& spec, bool fused = false) {
  Graph graph = Tiny(fused);
  const Status added = graph::AddLora(graph, spec);
  EXPECT_TRUE(added.ok()) << added.ToString();
  std::vector<std::string> modules;
  for (const graph::Param& param : graph.params) {
    if (param.adapter < 0) continue;
    const std::string module = graph::ModuleOf(graph, param);
    if (std::find(modules.begin(), modules.end(), module) == modules.end()) {
      modules.push_back(module);
    }
  }
  return modules;
}

using Names = std::vector<std::string>;

TEST(AddLora, AllLinearIsEveryLinearNodeInGraphOrder) {
  const Names want = {"layers.0.q",    "layers.0.k",   "layers.0.v",    "layers.0.o",
                      "layers.0.gate", "layers.0.up",  "layers.0.down", "layers.1.q",
                      "layers.1.k",    "layers.1.v",   "layers.1.o",    "layers.1.gate",
                      "layers.1.up",   "layers.1.down"};
  EXPECT_EQ(Adapted({}), want);
  EXPECT_EQ(Adapted({.targets = {"All-Linear"}}), want);
  EXPECT_EQ(graph::LinearModules(Tiny()), want);
}

TEST(AddLora, TargetsAreNamesSuffixesOrPatterns) {
  EXPECT_EQ(Adapted({.targets = {"q", "down"}}),
            (Names{"layers.0.q", "layers.0.down", "layers.1.q", "layers.1.down"}));
  EXPECT_EQ(Adapted({.targets = {"1.q", "layers.0.o"}}), (Names{"layers.0.o", "layers.1.q"}));
  EXPECT_EQ(Adapted({.targets = {"layers.1.*"}}),
            (Names{"layers.1.q", "layers.1.k", "layers.1.v", "layers.1.o", "layers.1.gate",
                   "layers.1.up", "layers.1.down"}));
  EXPECT_EQ(Adapted({.targets = {"?p"}}), (Names{"layers.0.up", "layers.1.up"}));
  EXPECT_FALSE(graph::MatchesTarget("layers.0.gate", "ate"));
  EXPECT_TRUE(graph::MatchesTarget("a.b.c", "b*"));
  EXPECT_FALSE(graph::MatchesTarget("a.b.c", "a*b"));
}

TEST(AddLora, ParamsHavePeftsNamesShapesAndScales) {
  Graph graph = Tiny();
  ASSERT_TRUE(graph::AddLora(graph, {.name = "x",
                                     .r = 4,
                                     .alpha = 6,
                                     .dropout = 0.25,
                                     .targets = {"k", "up"},
                                     .rank_pattern = {{"0.up", 3}, {"up", 2}},
                                     .alpha_pattern = {{"layers.0.k", 10}}})
                  .ok());
  EXPECT_EQ(graph.adapters, Names{"x"});
  const graph::Param& a = ParamNamed(graph, "layers.0.k.lora_A.x.weight");
  EXPECT_EQ(a.shape, (std::vector<int64_t>{4, 16}));
  EXPECT_EQ(a.init, graph::kInitUniform);
  EXPECT_DOUBLE_EQ(a.init_value, 0.25);  // 1 / sqrt(16)
  EXPECT_EQ(ParamNamed(graph, "layers.0.k.lora_B.x.weight").shape, (std::vector<int64_t>{8, 4}));
  EXPECT_EQ(ParamNamed(graph, "layers.0.up.lora_B.x.weight").shape, (std::vector<int64_t>{24, 3}));
  EXPECT_EQ(ParamNamed(graph, "layers.1.up.lora_A.x.weight").shape, (std::vector<int64_t>{2, 16}));
  std::vector<double> scales;
  for (const graph::Node& node : graph.nodes) {
    for (const graph::LoraPart& part : node.lora) {
      EXPECT_EQ(part.dropout, 0.25);
      scales.push_back(part.scale);
    }
  }
  EXPECT_EQ(scales, (std::vector<double>{2.5, 2, 1.5, 3}));
  ASSERT_TRUE(graph::AddLora(graph, {.name = "y", .r = 4, .alpha = 6, .rslora = true}).ok());
  for (const graph::Node& node : graph.nodes) {
    if (node.lora.empty()) continue;
    EXPECT_EQ(node.lora.back().scale, 3);  // 6 / sqrt(4)
  }
  EXPECT_EQ(graph::FindAdapter(graph, "y"), 1);
  EXPECT_EQ(graph::FindAdapter(graph, "z"), -1);
}

TEST(AddLora, NodesShareTheModuleThatTheirWeightsAreRowsOf) {
  Graph graph = Tiny(true);
  ASSERT_TRUE(graph::AddLora(graph, {.r = 3, .targets = {"qkv", "up1", "up2"}}).ok());
  std::vector<graph::LoraPart> qkv, up;
  for (const graph::Node& node : graph.nodes) {
    if (node.block != 0) continue;
    (node.lora.size() == 1 ? qkv : up)
        .insert((node.lora.size() == 1 ? qkv : up).end(), node.lora.begin(), node.lora.end());
  }
  ASSERT_EQ(qkv.size(), 3U);
  for (const graph::LoraPart& part : qkv) {
    EXPECT_EQ(part.a, qkv[0].a);
    EXPECT_EQ(part.b, qkv[0].b);
    EXPECT_EQ(part.out_begin, 0);
  }
  EXPECT_EQ(qkv[1].b_begin, 16);
  EXPECT_EQ(qkv[2].b_begin, 24);
  EXPECT_EQ(ParamNamed(graph, "layers.0.qkv.lora_B.default.weight").shape,
            (std::vector<int64_t>{32, 3}));
  ASSERT_EQ(up.size(), 2U);
  EXPECT_NE(up[0].a, up[1].a);
  EXPECT_EQ(up[1].out_begin, 8);
  EXPECT_EQ(up[1].n_out, 16);
}

void ExpectRefused(const LoraSpec& spec, const std::string& rule,
                   Code code = Code::kInvalidArgument) {
  Graph graph = Tiny();
  ParamNamed(graph, "layers.1.o.weight").sources[0].transpose = true;
  const size_t n = graph.params.size();
  const Status status = graph::AddLora(graph, spec);
  EXPECT_EQ(status.code(), code) << rule;
  EXPECT_NE(status.message().find(rule), std::string::npos) << status.ToString();
  EXPECT_EQ(graph.params.size(), n);
  EXPECT_TRUE(graph.adapters.empty());
}

TEST(AddLora, RefusesWhatMeansNothing) {
  ExpectRefused({.name = "a.b", .targets = {"q"}}, "letters, digits");
  ExpectRefused({.r = 0, .targets = {"q"}}, "r is 0");
  ExpectRefused({.dropout = 1, .targets = {"q"}}, "below 1");
  ExpectRefused({.alpha = NAN, .targets = {"q"}}, "alpha must be finite");
  ExpectRefused({.targets = {}}, "empty list");
  ExpectRefused({.targets = {"dwn"}}, "did you mean \"down\"?");
  ExpectRefused({.targets = {"q", "embed"}}, "embeddings and the LM head");
  ExpectRefused({.targets = {"q"}, .rank_pattern = {{"k", 4}}}, "rank_pattern \"k\" matches no");
  ExpectRefused({.targets = {"q"}, .rank_pattern = {{"q", 0}}}, "rank_pattern \"q\" is 0");
  ExpectRefused({.targets = {"q"}, .alpha_pattern = {{"kk", 4}}}, "alpha_pattern \"kk\"");
  ExpectRefused({.targets = {"o"}}, "transposed", Code::kUnimplemented);
  ExpectRefused({}, "layers.1.o can't have an adapter", Code::kUnimplemented);
}

TEST(AddLora, RefusesAModuleOfWhichRowsAreMissing) {
  Graph graph = Tiny(true);
  ParamNamed(graph, "layers.0.k.weight").sources[0].row_begin += 1;
  const Status status = graph::AddLora(graph, {.targets = {"qkv"}});
  EXPECT_NE(status.message().find("only some of its rows"), std::string::npos);
}

TEST(AddLora, RefusesANameTwice) {
  Graph graph = Tiny();
  ASSERT_TRUE(graph::AddLora(graph, {}).ok());
  EXPECT_EQ(graph::AddLora(graph, {}).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace retort::engine::test
