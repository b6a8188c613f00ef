// layer_norm, slice, concat, add and mul in the builder: widths, roles, printing, refusals.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "retort/abi/draft/optimizer.h"
#include "tests/unit/graph/builder_fixture.h"

namespace retort::graph {
namespace {

using RowOps = BuilderTest;

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

}  // namespace
}  // namespace retort::graph
