// Custom nodes while a graph is built: what infer may say, what comes out, how it is printed. The
// ops are those of tests/unit/engine/test_ops.h, and one that says what a test tells it to.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "core/graph/graph.h"
#include "tests/unit/engine/test_ops.h"

namespace retort::graph {
namespace {

using engine::test::SetShape;
using testing::HasSubstr;

// An op whose infer is the test's.
class Told final : public OpHandle {
 public:
  using Infer = std::function<void(retort_op_shapes*, int64_t rows)>;
  explicit Told(Infer infer, uint32_t flags = 0) : infer_(std::move(infer)) {
    table_.struct_size = sizeof(table_);
    table_.flags = flags;
    table_.infer = [](retort_instance* p, const retort_call*, retort_op_shapes* s) {
      const int64_t rows = s->in[0]->shape[0];
      SetShape(s->out[0], s->in[0]->dtype, {rows, 5});
      reinterpret_cast<Told*>(p)->infer_(s, rows);
      return retort_status{RETORT_OK};
    };
  }
  const retort_op_v1& table() const override { return table_; }
  retort_instance* instance() const override {
    return reinterpret_cast<retort_instance*>(const_cast<Told*>(this));
  }

 private:
  Infer infer_;
  retort_op_v1 table_{};
};

Result<OpSpec> Ask(Told::Infer infer, uint32_t flags = 0) {
  const Told op(std::move(infer), flags);
  return InferOp(op, std::vector<OpInput>{{.width = 8}}, 1, DType::kF32);
}

void ExpectRefused(Told::Infer infer, const std::string& rule, uint32_t flags = 0) {
  const auto spec = Ask(std::move(infer), flags);
  ASSERT_FALSE(spec.ok()) << "accepted; expected: " << rule;
  EXPECT_THAT(spec.status().message(), HasSubstr(rule));
}

constexpr retort_dtype kF32 = {RETORT_DTYPE_FLOAT, 32, 1};
constexpr retort_dtype kU8 = {RETORT_DTYPE_UINT, 8, 1};

TEST(InferOp, TellsRowsFromFixedSizes) {
  const auto spec = Ask([](retort_op_shapes* s, int64_t rows) {
    s->n_saved = 3;
    SetShape(s->saved[0], kU8, {rows, 3, 7});
    SetShape(s->saved[1], kF32, {1});
    SetShape(s->saved[2], kF32, {});
    s->n_state = 1;
    SetShape(s->state[0], kF32, {2, 8});
    s->backward_in = 1;
  });
  ASSERT_TRUE(spec.ok()) << spec.status().ToString();
  EXPECT_EQ(spec->out_widths, std::vector<int64_t>{5});
  EXPECT_TRUE(spec->saved[0].per_row);
  EXPECT_EQ(spec->saved[0].bytes(), 21);
  EXPECT_FALSE(spec->saved[1].per_row);
  EXPECT_EQ(spec->saved[1].bytes(), 4);
  EXPECT_EQ(spec->saved[2].bytes(), 4);
  EXPECT_EQ(spec->state[0].bytes(), 64);
  EXPECT_EQ(spec->backward_in, 1U);
  EXPECT_EQ(spec->backward_out, 0U);
}

TEST(InferOp, OutputsThatAreNoRowsAreRefused) {
  ExpectRefused(
      [](retort_op_shapes* s, int64_t) {
        SetShape(s->out[0], kF32, {4, 5});
      },
      "output 0 must be [T, width] of f32");
  ExpectRefused([](retort_op_shapes* s, int64_t rows) { SetShape(s->out[0], kF32, {rows}); },
                "output 0 must be [T, width] of f32");
  ExpectRefused(
      [](retort_op_shapes* s, int64_t rows) {
        SetShape(s->out[0], kU8, {rows, 5});
      },
      "output 0 must be [T, width] of f32");
  ExpectRefused(
      [](retort_op_shapes* s, int64_t rows) {
        SetShape(s->out[0], kF32, {rows, rows});
      },
      "output 0 has shape [1, 1] for 1 row and [1031, 1031] for 1031");
}

TEST(InferOp, SavedSizesThatFollowTheRowsOtherwiseAreRefused) {
  ExpectRefused(
      [](retort_op_shapes* s, int64_t rows) {
        s->n_saved = 1;
        SetShape(s->saved[0], kF32, {(rows + 63) / 64, 5});
      },
      "saved 0 has shape [1, 5] for 1 row and [17, 5] for 1031; its first dimension must be");
  ExpectRefused([](retort_op_shapes* s, int64_t rows) { s->n_saved = rows > 9 ? 1 : 0; },
                "the number of saved tensors depends on the number of rows");
  ExpectRefused(
      [](retort_op_shapes* s, int64_t rows) {
        s->n_state = 1;
        SetShape(s->state[0], kF32, {rows, 8});
      },
      "state 0 depends on the number of rows");
}

TEST(InferOp, SenselessAnswersAreRefused) {
  ExpectRefused([](retort_op_shapes* s, int64_t) { s->n_saved = 9; }, "9 saved and 0 state");
  ExpectRefused([](retort_op_shapes* s, int64_t) { s->backward_in = 2; }, "that doesn't exist");
  ExpectRefused([](retort_op_shapes* s, int64_t) { s->out[0].ndim = 99; }, "has 99 dimensions");
  ExpectRefused(
      [](retort_op_shapes* s, int64_t rows) {
        SetShape(s->out[0], kF32, {rows, -5});
      },
      "sizes must be above 0 and sane");
  ExpectRefused(
      [](retort_op_shapes* s, int64_t rows) {
        SetShape(s->out[0], kF32, {rows, int64_t{1} << 60});
      },
      "sizes must be above 0 and sane");
  ExpectRefused(
      [](retort_op_shapes* s, int64_t) {
        s->n_state = 1;
        SetShape(s->state[0], kF32, {8});
      },
      "it says ROWWISE but declares state", RETORT_OP_ROWWISE);
  ExpectRefused([](retort_op_shapes* s, int64_t rows) { s->backward_in = rows > 9 ? 1 : 0; },
                "depends on the number of rows");
}

TEST(CanonicalAttributes, SortsKeysAtEveryDepth) {
  EXPECT_EQ(CanonicalAttributes(R"( {"b": [1, {"z": 1.50, "a": "x"}], "a": null} )").value(),
            R"({"a":null,"b":[1,{"a":"x","z":1.50}]})");
  EXPECT_EQ(CanonicalAttributes("").value(), "{}");
  EXPECT_FALSE(CanonicalAttributes("7").ok());
  EXPECT_FALSE(CanonicalAttributes("{").ok());
}

class CustomBuilder : public testing::Test {
 protected:
  retort_param Param(const char* name, std::vector<int64_t> shape) {
    retort_param_spec spec{};
    spec.struct_size = sizeof(spec);
    spec.name = name;
    spec.shape = shape.data();
    spec.ndim = static_cast<uint32_t>(shape.size());
    return t_->param(t_->ctx, &spec);
  }
  retort_value Custom(const char* op, std::vector<retort_value> in, uint32_t n_out = 1,
                      std::string_view attributes = {}) {
    return t_->custom(t_->ctx, op, in.data(), static_cast<uint32_t>(in.size()), n_out,
                      ToStr(attributes));
  }
  Result<Graph> Finish(retort_value y) {
    t_->result(t_->ctx, y, Param("head", {7, 8}), 1, 0);
    return builder_.Finish();
  }
  void ExpectError(retort_value y, const std::string& rule) {
    const auto graph = Finish(y);
    ASSERT_FALSE(graph.ok()) << "accepted; expected: " << rule;
    EXPECT_THAT(graph.status().message(), HasSubstr(rule));
    EXPECT_THAT(graph.status().message(), testing::Not(testing::ContainsRegex("; (node|result)")))
        << "echoes";
  }

  Builder builder_{"test", engine::test::MakeTestOp};
  const retort_builder_v1* t_ = builder_.table();
  retort_value x_ = t_->embed(t_->ctx, Param("embed", {7, 8}), 1);
};

TEST_F(CustomBuilder, OutputsAreValuesAndWeightsKeepTheirShape) {
  const retort_param w = Param("w", {8});
  const retort_value both = Custom("mix", {x_, x_, t_->value_of(t_->ctx, w)}, 2, R"({"k": 1})");
  EXPECT_EQ(t_->value_of(t_->ctx, w).id, t_->value_of(t_->ctx, w).id);
  const auto graph = Finish(t_->output_of(t_->ctx, both, 1));  // output 0 may go unread
  ASSERT_TRUE(graph.ok()) << graph.status().ToString();
  const Node& node = graph->nodes[1];
  EXPECT_EQ(node.op, Op::kCustom);
  EXPECT_EQ(node.n_out, 2);
  EXPECT_EQ(graph->hidden, node.out + 1);
  EXPECT_EQ(graph->values[static_cast<size_t>(graph->hidden)].producer, 1);
  EXPECT_EQ(graph->customs[0].id, "mix");
  EXPECT_EQ(graph->customs[0].attributes, R"({"k":1})");
  const std::string text = Print(*graph);
  EXPECT_THAT(text, HasSubstr("mix {\"k\":1}  w [8]"));
  EXPECT_THAT(text, HasSubstr("%" + std::to_string(graph->hidden) + " [T, 8]"));
}

TEST_F(CustomBuilder, ANodeThatNobodyReadsIsRefused) {
  Custom("tanh", {x_});
  ExpectError(x_, "node 1 (custom): its output never reaches the result");
}
TEST_F(CustomBuilder, AnUnknownOpIsOneMessage) {
  ExpectError(Custom("tahn", {Custom("tahn", {x_})}), "node 1 (custom tahn): there is no op");
}
TEST_F(CustomBuilder, TheOpsOwnTextIsKept) {
  ExpectError(Custom("tanh", {x_, x_}),
              "node 1 (custom tanh): infer: 2 inputs, 1 outputs: tanh takes one input");
}
TEST_F(CustomBuilder, CountsAreChecked) {
  ExpectError(Custom("tanh", {}), "it has 0 inputs; 1 to 64 are allowed");
}
TEST_F(CustomBuilder, OutputCountsAreChecked) {
  ExpectError(Custom("tanh", {x_}, 9), "it has 9 outputs; 1 to 8 are allowed");
}
TEST_F(CustomBuilder, OutputOfAnotherNodeIsRefused) {
  ExpectError(t_->output_of(t_->ctx, x_, 0), "output_of: value 1 is not what custom gave");
}
TEST_F(CustomBuilder, AValueThatIsNotThereIsRefused) {
  ExpectError(Custom("tanh", {{77}}), "input 0 is not a value of this graph");
}

TEST(CustomWithoutFactory, IsRefused) {
  Builder builder("test");
  const retort_builder_v1* t = builder.table();
  retort_param_spec spec{};
  const std::array<int64_t, 2> shape = {7, 8};
  spec.struct_size = sizeof(spec);
  spec.name = "embed";
  spec.shape = shape.data();
  spec.ndim = 2;
  const retort_value x = t->embed(t->ctx, t->param(t->ctx, &spec), 1);
  EXPECT_EQ(t->custom(t->ctx, "tanh", &x, 1, 1, {}).id, 0U);
  EXPECT_THAT(builder.Finish().status().message(), HasSubstr("custom ops can't be made here"));
}

}  // namespace
}  // namespace retort::graph
