// What a family author is told when a custom node is wrong: node, op and rule.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <array>

#include "host/session/op_factory.h"
#include "tests/unit/custom_ops/hybrid_model.h"

namespace retort::host {
namespace {

using testing::HasSubstr;

class CustomNode : public testing::Test {
 protected:
  retort_param Param(const char* name, std::vector<int64_t> shape) {
    retort_param_spec spec{};
    spec.struct_size = sizeof(spec);
    spec.name = name;
    spec.shape = shape.data();
    spec.ndim = static_cast<uint32_t>(shape.size());
    return t_->param(t_->ctx, &spec);
  }
  retort_value Weight(const char* name, std::vector<int64_t> shape) {
    return t_->value_of(t_->ctx, Param(name, std::move(shape)));
  }
  retort_value Custom(const char* op, std::vector<retort_value> in, std::string_view attributes,
                      uint32_t n_out = 1) {
    return t_->custom(t_->ctx, op, in.data(), static_cast<uint32_t>(in.size()), n_out,
                      ToStr(attributes));
  }
  std::string Error(retort_value y) {
    t_->result(t_->ctx, y, Param("head", {7, 8}), 1, 0);
    const auto graph = builder_.Finish();
    EXPECT_FALSE(graph.ok());
    return graph.ok() ? "" : graph.status().message();
  }

  std::unique_ptr<Session> session_ = HybridSession();
  graph::Builder builder_{"test", MakeOpFactory(session_->plugins())};
  const retort_builder_v1* t_ = builder_.table();
  retort_value x_ = t_->embed(t_->ctx, Param("embed", {7, 8}), 1);
};

TEST_F(CustomNode, AnUnknownOpIsNamedWithTheNearest) {
  const std::string error = Error(Custom("short_cnov", {x_}, "{}"));
  EXPECT_THAT(error, HasSubstr("node 1 (custom short_cnov)"));
  EXPECT_THAT(error, HasSubstr("did you mean \"short_conv\"?"));
}
TEST_F(CustomNode, AWrongNumberOfInputsIsTheOpsToTell) {
  const std::string error = Error(Custom("xielu", {x_}, "{}"));
  EXPECT_THAT(error, HasSubstr("node 1 (custom xielu)"));
  EXPECT_THAT(error, HasSubstr("xielu takes x, alpha_p and alpha_n, not 1 inputs"));
}
TEST_F(CustomNode, ABadAttributeIsNamedByItsPointer) {
  const retort_value w = Weight("w", {8, 1, 3});
  EXPECT_THAT(Error(Custom("short_conv", {x_, w}, R"({"kernel_size": 99})")),
              HasSubstr("node 1 (custom short_conv): /kernel_size: "));
}
TEST_F(CustomNode, AMissingAttributeIsNamed) {
  const retort_value w = Weight("w", {8, 1, 3});
  EXPECT_THAT(Error(Custom("short_conv", {x_, w}, {})), HasSubstr("kernel_size"));
}
TEST_F(CustomNode, AttributesThatAreNoJsonAreRefused) {
  EXPECT_THAT(Error(Custom("short_conv", {x_}, "{kernel_size: 3}")),
              HasSubstr("node 1 (custom short_conv): attributes:1:2"));
}
TEST_F(CustomNode, AttributesMustBeAnObject) {
  EXPECT_THAT(Error(Custom("short_conv", {x_}, "[3]")), HasSubstr("must be a JSON object"));
}
TEST_F(CustomNode, InferRefusesAWeightThatDoesNotFit) {
  const retort_value w = Weight("w", {8, 1, 4});
  EXPECT_THAT(Error(Custom("short_conv", {x_, w}, R"({"kernel_size": 3})")),
              HasSubstr("the weight must be [8, 1, 3]"));
}
TEST_F(CustomNode, MoreOutputsThanTheOpHasAreRefused) {
  const retort_value w = Weight("w", {8, 1, 3});
  EXPECT_THAT(Error(Custom("short_conv", {x_, w}, R"({"kernel_size": 3})", 2)),
              HasSubstr("the op has 1 outputs, the graph asks for 2"));
}
TEST_F(CustomNode, AnOutputThatIsNotThereIsRefused) {
  const retort_value w = Weight("w", {8, 1, 3});
  const retort_value y = Custom("short_conv", {x_, w}, R"({"kernel_size": 3})");
  EXPECT_THAT(Error(t_->output_of(t_->ctx, y, 1)),
              HasSubstr("node 1 (custom short_conv) has no output 1; it has 1"));
}
TEST_F(CustomNode, OnlyWeightsAreNoInput) {
  EXPECT_THAT(Error(Custom("xielu", {Weight("w", {1})}, "{}")),
              HasSubstr("all its inputs are weights; one must be token rows"));
}
TEST_F(CustomNode, AWeightIsNoValueForOtherOps) {
  EXPECT_THAT(Error(t_->scale(t_->ctx, Weight("w", {8}), 2)),
              HasSubstr("node 1 (scale): x is the weight \"w\""));
}
TEST_F(CustomNode, AFamilyThatFailsIsToldInTheModelsError) {
  const std::string config = R"({"model_type": "hybrid_example", "vocab_size": 8, "hidden_size": 8,
    "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "max_position_embeddings": 16, "layer_types": ["conv"], "conv_L_cache": 1})";
  const auto graph = session_->BuildGraph(config);
  ASSERT_FALSE(graph.ok());
  EXPECT_THAT(graph.status().message(),
              HasSubstr("node 6 (custom short_conv, block 0): /kernel_size: "));
}

}  // namespace
}  // namespace retort::host
