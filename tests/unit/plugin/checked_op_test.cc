// The checked wrapper around ops: whatever infer says wrongly is found before anybody allocates.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <functional>

#include "tests/unit/plugin/table_fixture.h"

namespace retort::host {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// What the plugin's infer does after a correct answer: one output like the input.
std::function<void(retort_op_shapes*)> the_change;

retort_status Infer(retort_instance*, const retort_call*, retort_op_shapes* s) {
  s->out[0].ndim = 2;
  s->out[0].dtype = {RETORT_DTYPE_FLOAT, 32, 1};
  s->out[0].shape[0] = 5;
  s->out[0].shape[1] = 3;
  the_change(s);
  return RETORT_OK;
}

retort_status Fail(retort_instance*, const retort_call*, const retort_op_args*) {
  return RETORT_UNIMPLEMENTED;
}

struct Room {
  std::array<retort_tensor, RETORT_OP_MAX_OUTPUTS> tensors{};
  std::array<std::array<int64_t, RETORT_OP_MAX_DIMS>, RETORT_OP_MAX_OUTPUTS> shapes{}, strides{};
  Room() {
    for (size_t i = 0; i < tensors.size(); ++i) {
      tensors[i].shape = shapes[i].data();
      tensors[i].strides = strides[i].data();
    }
  }
};

struct Inferred {
  Status status;
  retort_op_shapes shapes{};
  std::array<int64_t, 2> out_shape{};
};

Inferred RunInfer(std::function<void(retort_op_shapes*)> change) {
  the_change = std::move(change);
  retort_op_v1 table{};
  table.struct_size = sizeof(table);
  table.infer = Infer;
  table.forward = Fail;
  const auto op = WrapOne(RETORT_OP_INTERFACE, &table, "op").value();
  Room out, saved, state, in;
  in.tensors[0].ndim = 2;
  const retort_tensor* inputs[] = {&in.tensors[0]};
  Inferred result;
  result.shapes = {.struct_size = sizeof(retort_op_shapes),
                   .flags = 0,
                   .n_in = 1,
                   .n_out = 1,
                   .n_saved = 77,  // the wrapper clears what infer must fill in
                   .n_state = 77,
                   .in = inputs,
                   .out = out.tensors.data(),
                   .saved = saved.tensors.data(),
                   .state = state.tensors.data(),
                   .backward_in = 77,
                   .backward_out = 77};
  PluginCall call("op x");
  result.status = call.End(op->out.op.infer(op->handle(), call.Begin(), &result.shapes), "infer");
  result.out_shape = {out.shapes[0][0], out.shapes[0][1]};
  return result;
}

std::string ErrorOf(std::function<void(retort_op_shapes*)> change) {
  const Inferred result = RunInfer(std::move(change));
  EXPECT_FALSE(result.status.ok());
  return result.status.message();
}

TEST(CheckedOp, GoodAnswerPasses) {
  const Inferred result = RunInfer([](retort_op_shapes* s) {
    s->n_state = 1;
    s->state[0].ndim = 0;
    s->state[0].dtype = {RETORT_DTYPE_BFLOAT, 16, 1};
    s->backward_in = 1;
    s->backward_out = 1;
  });
  ASSERT_TRUE(result.status.ok()) << result.status.ToString();
  EXPECT_EQ(result.out_shape, (std::array<int64_t, 2>{5, 3}));
  EXPECT_EQ(result.shapes.n_saved, 0U);
  EXPECT_EQ(result.shapes.n_state, 1U);
  EXPECT_EQ(result.shapes.backward_in, 1U);
  EXPECT_EQ(result.shapes.backward_out, 1U);
}

TEST(CheckedOp, CountsBeyondTheRoom) {
  EXPECT_THAT(ErrorOf([](retort_op_shapes* s) { s->n_saved = 9; }), HasSubstr("9 saved"));
  EXPECT_THAT(ErrorOf([](retort_op_shapes* s) { s->n_state = 1U << 31; }),
              HasSubstr("at most 8 each"));
}

TEST(CheckedOp, TensorNotDescribed) {
  EXPECT_THAT(ErrorOf([](retort_op_shapes* s) { s->n_saved = 1; }),
              AllOf(HasSubstr("saved[0]"), HasSubstr("did not describe it")));
}

TEST(CheckedOp, ImpossibleShapes) {
  EXPECT_THAT(ErrorOf([](retort_op_shapes* s) { s->out[0].ndim = 9; }), HasSubstr("9 dimensions"));
  EXPECT_THAT(ErrorOf([](retort_op_shapes* s) { s->out[0].ndim = -2; }),
              HasSubstr("-2 dimensions"));
  EXPECT_THAT(ErrorOf([](retort_op_shapes* s) { s->out[0].shape[1] = -3; }),
              AllOf(HasSubstr("out[0]"), HasSubstr("dimension 1 is -3")));
  EXPECT_THAT(ErrorOf([](retort_op_shapes* s) { s->out[0].shape[1] = INT64_MAX; }),
              HasSubstr("overflows"));
  EXPECT_THAT(ErrorOf([](retort_op_shapes* s) { s->out[0].shape[1] = int64_t{1} << 45; }),
              HasSubstr("bytes"));
  EXPECT_THAT(ErrorOf([](retort_op_shapes* s) { s->out[0].ndim = 1; }),
              HasSubstr("matrix of token rows"));
}

TEST(CheckedOp, UnknownDtypes) {
  for (const retort_dtype dtype :
       {retort_dtype{3, 32, 1}, retort_dtype{RETORT_DTYPE_FLOAT, 24, 1},
        retort_dtype{RETORT_DTYPE_FLOAT, 32, 4}, retort_dtype{RETORT_DTYPE_BOOL, 1, 1}}) {
    EXPECT_THAT(ErrorOf([&](retort_op_shapes* s) { s->out[0].dtype = dtype; }),
                HasSubstr("dtype does not exist"));
  }
  EXPECT_THAT(ErrorOf([](retort_op_shapes* s) { s->out[0].dtype.code = RETORT_DTYPE_INT; }),
              HasSubstr("float type"));
}

TEST(CheckedOp, BitsOfTensorsThatDoNotExist) {
  EXPECT_THAT(ErrorOf([](retort_op_shapes* s) { s->backward_in = 2; }), HasSubstr("backward_in"));
  EXPECT_THAT(ErrorOf([](retort_op_shapes* s) { s->backward_out = 4; }), HasSubstr("bit"));
}

TEST(CheckedOp, HostsMembersChanged) {
  EXPECT_THAT(ErrorOf([](retort_op_shapes* s) { s->n_out = 2; }), HasSubstr("the host's"));
  EXPECT_THAT(ErrorOf([](retort_op_shapes* s) { s->out = nullptr; }), HasSubstr("the host's"));
}

TEST(CheckedOp, ThrownInForwardIsCaught) {
  retort_op_v1 table{};
  table.struct_size = sizeof(table);
  table.infer = Infer;
  table.forward = [](retort_instance*, const retort_call*, const retort_op_args*) -> retort_status {
    throw std::runtime_error("boom");
  };
  const auto op = WrapOne(RETORT_OP_INTERFACE, &table, "op").value();
  EXPECT_EQ(op->out.op.backward, nullptr);
  EXPECT_EQ(op->out.op.decode, nullptr);
  PluginCall call("op x");
  const retort_op_args args{};
  const Status status = call.End(op->out.op.forward(op->handle(), call.Begin(), &args), "forward");
  EXPECT_THAT(status.message(), AllOf(HasSubstr("threw"), HasSubstr("boom")));
}

}  // namespace
}  // namespace retort::host
