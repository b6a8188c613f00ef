// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "core/graph/graph.h"
#include "core/graph/rope.h"
#include "retort/abi/draft/optimizer.h"
#include "tests/unit/engine/golden_values.h"
#include "tests/unit/engine/tiny_model.h"
#include "tests/unit/graph/builder_fixture.h"

namespace retort::graph {
namespace {

TEST_F(BuilderTest, InfersWidthsRolesAndDefaults) {
  const Graph graph = engine::test::TinyFamily({}).Build();
  EXPECT_EQ(graph.n_layers, 2);
  EXPECT_EQ(graph.n_blocks, 2);
  EXPECT_EQ(graph.width(), 16);
  EXPECT_EQ(graph.vocab(), 29);
  EXPECT_EQ(graph.params[0].roles, RETORT_ROLE_EMBEDDING | RETORT_ROLE_HEAD);
  EXPECT_EQ(graph.params[0].sources.size(), 1U);
  EXPECT_EQ(graph.params[0].sources[0].checkpoint_name, "embed.weight");
  for (const Node& node : graph.nodes) {
    if (node.op == Op::kAttention) {
      EXPECT_DOUBLE_EQ(node.attention.scale, 0.5);
    }
    if (node.op == Op::kLinear) {
      EXPECT_EQ(graph.params[static_cast<size_t>(node.params[0])].roles, RETORT_ROLE_MATRIX);
    }
  }
}

TEST_F(BuilderTest, PrintNamesEveryNodeAndParam) {
  const Graph graph = engine::test::TinyFamily({}).Build();
  const std::string text = Print(graph);
  for (const graph::Param& param : graph.params) {
    EXPECT_NE(text.find(param.name), std::string::npos) << param.name;
  }
  EXPECT_NE(text.find("block 1"), std::string::npos);
  EXPECT_NE(text.find("4 heads / 2 of 4, scale 0.5"), std::string::npos);
  EXPECT_NE(text.find("tied to the embedding"), std::string::npos);
  EXPECT_NE(text.find(std::to_string(graph.n_params()) + " elements"), std::string::npos);
}

TEST_F(BuilderTest, AWeightThatDoesNotFitIsRefusedWithBothShapes) {
  Result(t_->linear(t_->ctx, Embedded(), Param("w", {8, 9}), {0}));
  ExpectError("node 1 (linear): param \"w\" has shape [8, 9]; it must be [any, 8]");
}
TEST_F(BuilderTest, OneMistakeIsOneMessage) {
  retort_value x = t_->linear(t_->ctx, Embedded(), Param("w", {8, 9}), {0});
  for (int i = 0; i < 3; ++i) x = t_->scale(t_->ctx, x, 2);
  Result(x);
  const auto graph = builder_.Finish();
  EXPECT_EQ(graph.status().message().find("scale"), std::string::npos) << graph.status().message();
}
TEST_F(BuilderTest, AMissingResultIsRefused) {
  Embedded();
  ExpectError("result was never given");
}
TEST_F(BuilderTest, AValueThatNeverReachesTheResultIsRefused) {
  const retort_value x = Embedded();
  t_->scale(t_->ctx, x, 2);
  Result(x);
  ExpectError("node 1 (scale): its output never reaches the result");
}
TEST_F(BuilderTest, AnUnusedParamIsRefused) {
  Param("spare", {3});
  Result(Embedded());
  ExpectError("param \"spare\" is declared but never used");
}
TEST_F(BuilderTest, UnknownIdsAreRefused) {
  Result(t_->add(t_->ctx, Embedded(), {99}));
  ExpectError("node 1 (add): b is not a value of this graph");
}
TEST_F(BuilderTest, BadParamsAreRefused) {
  Param("w", {8, 0});
  Param("", {8});
  Param("w2", {8});
  Param("w2", {8});
  Result(Embedded());
  const auto graph = builder_.Finish();
  const std::string message = graph.status().message();
  EXPECT_NE(message.find("param \"w\": its shape is [8, 0]"), std::string::npos);
  EXPECT_NE(message.find("param \"\": it has no name"), std::string::npos);
  EXPECT_NE(message.find("param \"w2\": the name is taken already"), std::string::npos);
}
TEST_F(BuilderTest, RowsOfOneTensorMayBeSharedOnlyIfDisjoint) {
  const auto rows = [](int64_t begin, int64_t end) {
    return std::vector<retort_slice>{{"qkv", begin, end, 0, 0}};
  };
  retort_value x = t_->linear(t_->ctx, Embedded(), Param("q", {8, 8}, rows(0, 8)), {0});
  x = t_->linear(t_->ctx, x, Param("k", {8, 8}, rows(7, 15)), {0});
  Result(x);
  ExpectError("checkpoint tensor \"qkv\" is claimed twice, by params \"q\" and \"k\"");
}
TEST_F(BuilderTest, SourcesMustGiveTheParamsRows) {
  Param("q", {8, 8}, {{"a", 0, 3, 0, 0}, {"b", 0, 4, 0, 0}});
  Result(Embedded());
  ExpectError("its sources give 7 rows, its shape has 8");
}
TEST_F(BuilderTest, AttentionThatDoesNotFitIsRefused) {
  const retort_value x = Embedded();
  retort_attention_spec spec{};
  spec.struct_size = sizeof(spec);
  spec.n_heads = 3;
  spec.n_kv_heads = 2;
  spec.head_dim = 4;
  Result(t_->attention(t_->ctx, x, x, x, 0, &spec));
  ExpectError("n_heads 3 must be a multiple of n_kv_heads 2");
}
TEST_F(BuilderTest, LayersAndBlocksCountFromZero) {
  const retort_value x = Embedded();
  t_->block(t_->ctx, 1);
  retort_attention_spec spec{};
  spec.struct_size = sizeof(spec);
  spec.n_heads = spec.n_kv_heads = 2;
  spec.head_dim = 4;
  Result(t_->attention(t_->ctx, x, x, x, 1, &spec));
  ExpectError("layer 1 where 0 was due");
}
TEST_F(BuilderTest, UnknownRopeScalingIsRefusedByName) {
  retort_rope_spec spec{};
  spec.struct_size = sizeof(spec);
  spec.theta = 10000;
  spec.max_positions = 64;
  const std::string scaling = R"({"rope_type": "spiral", "factor": 2})";
  spec.scaling_json = {scaling.data(), scaling.size()};
  Result(t_->rope(t_->ctx, Embedded(), 2, &spec));
  ExpectError("type \"spiral\" is not supported", Code::kUnimplemented);
}

}  // namespace
}  // namespace retort::graph
