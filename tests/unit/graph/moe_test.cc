// What the builder's op for experts takes and refuses.
// SPDX-License-Identifier: Apache-2.0
#include "retort/abi/draft/optimizer.h"
#include "tests/unit/graph/builder_fixture.h"

namespace retort::graph {
namespace {

// 6 experts of 5 over a width of 8.
class MoeBuilderTest : public BuilderTest {
 protected:
  MoeBuilderTest() {
    spec_.struct_size = sizeof(spec_);
    spec_.n_experts = 6;
    spec_.top_k = 2;
  }
  retort_value Moe(std::vector<int64_t> gate_up = {6, 10, 8}, std::vector<int64_t> down = {6, 8, 5},
                   int64_t router_rows = 6, const char* suffix = "") {
    const auto named = [&](const char* name, std::vector<int64_t> shape) {
      return Param((std::string(name) + suffix).c_str(), std::move(shape));
    };
    if (x_.id == 0) x_ = Embedded();
    const retort_value logits = t_->linear(t_->ctx, x_, named("router", {router_rows, 8}), {0});
    spec_.gate_up = named("gate_up", std::move(gate_up));
    spec_.down = named("down", std::move(down));
    x_ = t_->moe(t_->ctx, x_, logits, &spec_);
    return x_;
  }
  void ExpectRefused(const std::string& rule, Code code = Code::kInvalidArgument) {
    Result(Moe());
    ExpectError("node 2 (moe): " + rule, code);
  }

  retort_moe_spec spec_{};
  retort_value x_{0};
};

TEST_F(MoeBuilderTest, KeepsTheSpecAndGivesRoles) {
  spec_.flags = RETORT_MOE_NORM_TOP_K | RETORT_MOE_SIGMOID;
  spec_.n_groups = 3;
  spec_.top_k_groups = 1;
  spec_.scale = 2;
  spec_.aux_coef = 0.5;
  spec_.score_bias = Param("bias", {6});
  Result(Moe());
  const Graph graph = Finished();
  const Node& node = graph.nodes[2];
  ASSERT_EQ(node.op, Op::kMoe);
  EXPECT_EQ(node.moe.n_experts, 6);
  EXPECT_EQ(node.moe.hidden, 5);
  EXPECT_EQ(node.moe.top_k_groups, 1);
  EXPECT_TRUE(node.moe.norm_top_k && node.moe.sigmoid);
  EXPECT_EQ(graph.values[static_cast<size_t>(node.out)].width, 8);
  const auto param = [&](size_t slot) {
    return graph.params[static_cast<size_t>(node.params[slot])];
  };
  EXPECT_EQ(param(0).roles, RETORT_ROLE_EXPERT);
  EXPECT_EQ(param(1).roles, RETORT_ROLE_EXPERT);
  EXPECT_EQ(param(2).roles, RETORT_ROLE_BIAS);
  EXPECT_NE(param(2).flags & RETORT_PARAM_FROZEN, 0U);  // no gradient reaches it
  EXPECT_EQ(graph.params[static_cast<size_t>(graph.nodes[1].params[0])].roles,
            RETORT_ROLE_MATRIX | RETORT_ROLE_ROUTER);
  const std::string text = Print(graph);
  EXPECT_NE(text.find("2 of 6 experts of 5, silu, sigmoid scores normed, from 1 of 3 groups, "
                      "scale 2, balance 0.5"),
            std::string::npos)
      << text;
}

TEST_F(MoeBuilderTest, ZerosStandForTheUsual) {
  Result(Moe());
  const Graph graph = Finished();
  const MoeSpec& moe = graph.nodes[2].moe;
  EXPECT_EQ(moe.n_groups, 1);
  EXPECT_EQ(moe.top_k_groups, 1);
  EXPECT_EQ(moe.scale, 1);
  EXPECT_EQ(graph.nodes[2].params[2], -1);
}

// Experts stack from a tensor of each: rows count over all dimensions but the last.
TEST_F(MoeBuilderTest, StacksCountTheRowsOfTheirSources) {
  Param("stack", {2, 3, 8}, {{"a", 0, 3, 0, 0}, {"b", 0, 2, 0, 0}});
  Result(Embedded());
  ExpectError("its sources give 5 rows, its shape has 6");
}

TEST_F(MoeBuilderTest, TopKAboveTheExpertsIsRefused) {
  spec_.top_k = 7;
  ExpectRefused("top_k is 7; it must be between 1 and n_experts, 6");
}
TEST_F(MoeBuilderTest, GroupsThatDoNotDivideAreRefused) {
  spec_.n_groups = 4;
  ExpectRefused("n_groups 4 doesn't divide n_experts 6");
}
TEST_F(MoeBuilderTest, GroupsTooSmallForTopKAreRefused) {
  spec_.n_groups = 6;
  spec_.top_k_groups = 1;
  ExpectRefused("top_k is 2, but the groups of a token hold 1 experts");
}
TEST_F(MoeBuilderTest, TooManyExpertsAreNotExecuted) {
  spec_.n_experts = 1025;
  ExpectRefused("n_experts is 1025, limit 1024", Code::kUnimplemented);
}
TEST_F(MoeBuilderTest, UnknownFlagsAndKindsAreNotExecuted) {
  spec_.flags = 64;
  ExpectRefused("flags 64 are unknown", Code::kUnimplemented);
}
TEST_F(MoeBuilderTest, ANegativeCoefficientIsRefused) {
  spec_.aux_coef = -1;
  ExpectRefused("aux_coef must be finite and at least 0");
}
TEST_F(MoeBuilderTest, WeightsThatDoNotFitAreRefusedWithBothShapes) {
  Result(Moe({6, 9, 8}));
  ExpectError("node 2 (moe): param \"gate_up\" has shape [6, 9, 8]; it must be [6, 10, 8]");
}
TEST_F(MoeBuilderTest, ARouterOfAnotherWidthIsRefused) {
  Result(Moe({6, 10, 8}, {6, 8, 5}, 5));
  ExpectError("node 2 (moe): router_logits have width 5, not n_experts 6");
}
TEST_F(MoeBuilderTest, LayersMustAgreeOnTheCoefficient) {
  Moe();
  spec_.aux_coef = 0.1;
  Result(Moe({6, 10, 8}, {6, 8, 5}, 6, "2"));
  ExpectError("aux_coef differs from that of an earlier layer");
}

}  // namespace
}  // namespace retort::graph
