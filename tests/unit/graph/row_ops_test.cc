// layer_norm, slice, concat, add and mul in the builder: widths, roles, printing, refusals.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "retort/abi/draft/optimizer.h"
#include "tests/unit/graph/builder_fixture.h"

namespace retort::graph {
namespace {

using RowOps = BuilderTest;

int64_t WidthOf(const Graph& graph, retort_value v) { return graph.values[v.id - 1].width; }
const Node& NodeOf(const Graph& graph, retort_value v) {
  return graph.nodes[static_cast<size_t>(graph.values[v.id - 1].producer)];
}

TEST_F(RowOps, LayerNormHasNormAndBiasRoles) {
  const retort_value x = Embedded();
  const retort_param w = Param("w", {8}), b = Param("b", {8});
  const retort_value y = t_->layer_norm(t_->ctx, x, w, b, 1e-5);
  Result(t_->layer_norm(t_->ctx, y, Param("w2", {8}), {0}, 1e-6));
  const Graph graph = Finished();
  EXPECT_EQ(graph.params[1].roles, RETORT_ROLE_NORM);
  EXPECT_EQ(graph.params[2].roles, RETORT_ROLE_BIAS);
  EXPECT_EQ(graph.nodes[2].params, (std::vector<int32_t>{3, -1}));
  EXPECT_EQ(graph.width(), 8);
  const std::string text = Print(graph);
  EXPECT_NE(text.find("layer_norm"), std::string::npos) << text;
  EXPECT_NE(text.find("[T, 8]  eps 1e-05  w [8]  b [8]"), std::string::npos) << text;
}
TEST_F(RowOps, LayerNormRefusesAWeightOfAnotherWidth) {
  Result(t_->layer_norm(t_->ctx, Embedded(), Param("w", {7}), {0}, 1e-5));
  ExpectError("node 1 (layer_norm): param \"w\" has shape [7]; it must be [8]");
}
TEST_F(RowOps, LayerNormRefusesABiasOfAnotherWidth) {
  Result(t_->layer_norm(t_->ctx, Embedded(), Param("w", {8}), Param("b", {8, 1}), 1e-5));
  ExpectError("node 1 (layer_norm): param \"b\" has shape [8, 1]; it must be [8]");
}
TEST_F(RowOps, LayerNormRefusesAnEpsThatIsNoNumber) {
  Result(t_->layer_norm(t_->ctx, Embedded(), Param("w", {8}), {0}, std::nan("")));
  ExpectError("node 1 (layer_norm): eps must be finite and at least 0");
}
TEST_F(RowOps, LayerNormRefusesIdsThatAreNone) {
  Result(t_->layer_norm(t_->ctx, Embedded(), Param("w", {8}), {77}, 1e-5));
  ExpectError("node 1 (layer_norm): bias is not a param of this graph");
}

TEST_F(RowOps, SliceTakesElementsOfEachHead) {
  const retort_value x = t_->slice(t_->ctx, Embedded(), 2, 1, 4);
  Result(t_->linear(t_->ctx, x, Param("w", {8, 6}), {0}));
  const Graph graph = Finished();
  EXPECT_EQ(WidthOf(graph, x), 6);
  const std::string text = Print(graph);
  EXPECT_NE(text.find("[T, 6]  elements 1 to 4 of 2 heads"), std::string::npos) << text;
}
TEST_F(RowOps, SliceRefusesHeadsThatDoNotDivide) {
  Result(t_->slice(t_->ctx, Embedded(), 3, 0, 1));
  ExpectError("node 1 (slice): x has width 8, no multiple of 3 heads");
}
TEST_F(RowOps, SliceRefusesNoHeads) {
  Result(t_->slice(t_->ctx, Embedded(), 0, 0, 1));
  ExpectError("node 1 (slice): x has width 8, no multiple of 0 heads");
}
TEST_F(RowOps, SliceRefusesElementsOutsideAHead) {
  Result(t_->slice(t_->ctx, Embedded(), 2, 1, 5));
  ExpectError("node 1 (slice): elements 1 to 5 of a head of 4; they must be begin < end <= 4");
}
TEST_F(RowOps, SliceRefusesAnEmptyRange) {
  Result(t_->slice(t_->ctx, Embedded(), 2, 3, 3));
  ExpectError("node 1 (slice): elements 3 to 3 of a head of 4; they must be begin < end <= 4");
}

TEST_F(RowOps, ConcatRepeatsInputsOfOneHead) {
  const retort_value x = Embedded();  // 8 wide: of 2 heads, 4 each
  const retort_value odd = t_->slice(t_->ctx, x, 1, 0, 3);
  retort_rope_spec spec{};
  spec.struct_size = sizeof(spec);
  spec.theta = 100;
  spec.max_positions = 64;
  const retort_value turned = t_->rope(t_->ctx, t_->slice(t_->ctx, x, 1, 0, 2), 1, &spec);
  const std::vector<retort_value> in = {x, odd, turned};
  const retort_value y = t_->concat(t_->ctx, in.data(), 3, 2);
  const retort_value flat = t_->concat(t_->ctx, in.data(), 3, 1);
  const std::vector<retort_value> both = {y, flat};
  const retort_value all = t_->concat(t_->ctx, both.data(), 2, 1);
  Result(t_->linear(t_->ctx, all, Param("w", {8, 31}), {0}));
  const Graph graph = Finished();
  EXPECT_EQ(WidthOf(graph, y), 2 * (4 + 3 + 2));
  EXPECT_EQ(WidthOf(graph, flat), 8 + 3 + 2);
  EXPECT_EQ(NodeOf(graph, y).repeats, 0b110U);
  EXPECT_EQ(NodeOf(graph, flat).repeats, 0U);
  const std::string text = Print(graph);
  const std::string want = "2 heads, %" + std::to_string(odd.id - 1) + " in each, %" +
                           std::to_string(turned.id - 1) + " in each";
  EXPECT_NE(text.find(want), std::string::npos) << text;
}
TEST_F(RowOps, ConcatRefusesNoInputsAndNoHeads) {
  const retort_value x = Embedded();
  t_->concat(t_->ctx, nullptr, 2, 1);
  t_->concat(t_->ctx, &x, 0, 1);
  t_->concat(t_->ctx, &x, 1, 0);
  Result(x);
  ExpectError(
      "node 1 (concat): it has 0 inputs of 1 heads; 1 to 64 inputs and at least 1 head are "
      "allowed; "
      "node 1 (concat): it has 0 inputs of 1 heads; 1 to 64 inputs and at least 1 head are "
      "allowed; "
      "node 1 (concat): it has 1 inputs of 0 heads");
}
TEST_F(RowOps, ConcatRefusesUnknownInputsAndAbsurdWidths) {
  const retort_value x = Embedded();
  const std::vector<retort_value> in = {x, {99}};
  t_->concat(t_->ctx, in.data(), 2, 1);
  t_->concat(t_->ctx, &x, 1, 0xFFFFFFFFU);
  Result(x);
  ExpectError(
      "node 1 (concat): input 1 is not a value of this graph; node 1 (concat): 4294967295 "
      "heads of 8 elements are wider than 2147483648");
}

TEST_F(RowOps, AddAndMulTakeAWeightOnEitherSide) {
  const retort_param shift = Param("shift", {8}), gain = Param("gain", {8}),
                     all = Param("all", {1});
  const auto weight = [&](retort_param p) { return t_->value_of(t_->ctx, p); };
  retort_value x = t_->add(t_->ctx, Embedded(), weight(shift));
  x = t_->mul(t_->ctx, weight(gain), x);
  Result(t_->mul(t_->ctx, x, weight(all)));
  const Graph graph = Finished();
  EXPECT_EQ(graph.params[0].roles, RETORT_ROLE_BIAS);
  EXPECT_EQ(graph.params[1].roles, RETORT_ROLE_NORM);
  EXPECT_EQ(graph.params[2].roles, RETORT_ROLE_NORM);
  EXPECT_EQ(graph.nodes[2].in.size(), 1U);
  EXPECT_EQ(graph.nodes[2].params, (std::vector<int32_t>{1}));
  EXPECT_EQ(graph.width(), 8);
  const std::string text = Print(graph);
  EXPECT_NE(text.find("[T, 8]  shift [8]"), std::string::npos) << text;
  EXPECT_NE(text.find("[T, 8]  gain [8]"), std::string::npos) << text;
}
TEST_F(RowOps, AddRefusesAWeightOfAnotherShape) {
  const retort_value w = t_->value_of(t_->ctx, Param("w", {1}));
  Result(t_->add(t_->ctx, Embedded(), w));
  ExpectError("node 1 (add): param \"w\" has shape [1]; it must be [8]");
}
TEST_F(RowOps, MulRefusesAWeightOfAnotherShape) {
  const retort_value w = t_->value_of(t_->ctx, Param("w", {1, 8}));
  Result(t_->mul(t_->ctx, Embedded(), w));
  ExpectError("node 1 (mul): param \"w\" has shape [1, 8]; it must be [8] or [1]");
}
TEST_F(RowOps, TwoWeightsAreRefused) {
  const retort_value w = t_->value_of(t_->ctx, Param("w", {8}));
  const retort_value x = Embedded();
  t_->mul(t_->ctx, w, w);
  Result(x);
  ExpectError("node 1 (mul): a and b are both weights; one must be token rows");
}
TEST_F(RowOps, OnlyBOfMulMayHaveWidthOne) {
  const retort_value x = Embedded(), one = t_->slice(t_->ctx, x, 1, 0, 1);
  t_->mul(t_->ctx, x, one);
  Result(t_->mul(t_->ctx, one, x));
  ExpectError("node 3 (mul): widths 1 and 8 don't fit together");
}
TEST_F(RowOps, OtherOpsRefuseAWeightByName) {
  const retort_value w = t_->value_of(t_->ctx, Param("w", {8}));
  Embedded();
  Result(t_->slice(t_->ctx, w, 1, 0, 1));
  ExpectError(
      "node 1 (slice): x is the weight \"w\"; what value_of gives is taken by custom, add "
      "and mul only",
      Code::kUnimplemented);
}

}  // namespace
}  // namespace retort::graph
