// The checked wrapper around filters, optimizers, families and losses, over tables made here.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "core/base/plugin_call.h"
#include "host/plugin/checked.h"

namespace retort::host {
namespace {

using testing::HasSubstr;

int the_object = 0;
const void* the_table = nullptr;  // what get_interface answers, whatever the id's revision
const char* the_id = "";

const retort_entry* Entry() {
  static const retort_entry entry = [] {
    retort_entry e{};
    e.destroy = [](retort_instance*) {};
    e.get_interface = [](retort_instance*, const char* id) -> const void* {
      return std::strcmp(id, the_id) == 0 ? the_table : nullptr;
    };
    return e;
  }();
  return &entry;
}

Result<std::unique_ptr<CheckedInstance>> WrapTable(const char* id, const void* table,
                                                   const char* kind) {
  the_id = id;
  the_table = table;
  return Wrap(Entry(), reinterpret_cast<retort_instance*>(&the_object), kind);
}

retort_decision the_decision;
uint64_t the_sample = 0;

retort_status DecideOnce(retort_instance*, const retort_call*, const retort_filter_args* args) {
  args->decide(args->out_ctx, the_sample, &the_decision);
  return RETORT_OK;
}

// A filter over two samples that decides once.
Status Judge(const retort_decision& decision, uint64_t sample) {
  the_decision = decision;
  the_sample = sample;
  retort_filter_v1 table{};
  table.struct_size = sizeof(table);
  table.judge = DecideOnce;
  const auto checked = WrapTable(RETORT_FILTER_INTERFACE, &table, "filter");
  if (!checked.ok()) return checked.status();
  const std::vector<retort_sample> samples(2);
  retort_filter_args args{};
  args.struct_size = sizeof(args);
  args.samples = samples.data();
  args.n_samples = 2;
  args.decide = [](void*, uint64_t, const retort_decision*) {};
  PluginCall call("filter x");
  return call.End((*checked)->out.filter.judge((*checked)->handle(), call.Begin(), &args), "judge");
}

retort_decision MakeDecision(uint32_t action, const char* reason) {
  retort_decision d{};
  d.struct_size = sizeof(d);
  d.action = action;
  d.reason = {reason, std::strlen(reason)};
  return d;
}

TEST(CheckedFilter, GoodDecisionsPass) {
  EXPECT_TRUE(Judge(MakeDecision(RETORT_KEEP, ""), 0).ok());
  EXPECT_TRUE(Judge(MakeDecision(RETORT_DROP, "short"), 1).ok());
}
TEST(CheckedFilter, SampleOutsideTheCall) {
  EXPECT_THAT(Judge(MakeDecision(RETORT_KEEP, ""), 2).message(), HasSubstr("2 samples"));
}
TEST(CheckedFilter, UnknownAction) {
  EXPECT_THAT(Judge(MakeDecision(4, "x"), 0).message(), HasSubstr("action 4"));
}
TEST(CheckedFilter, DropNeedsAReason) {
  EXPECT_THAT(Judge(MakeDecision(RETORT_DROP, ""), 0).message(), HasSubstr("reason"));
}
TEST(CheckedFilter, RewriteNeedsAText) {
  EXPECT_THAT(Judge(MakeDecision(RETORT_REWRITE, "x"), 0).message(), HasSubstr("REWRITE"));
}
TEST(CheckedFilter, DecisionTooSmall) {
  retort_decision d = MakeDecision(RETORT_KEEP, "");
  d.struct_size = 8;
  EXPECT_THAT(Judge(d, 0).message(), HasSubstr("struct_size is 8"));
}
TEST(CheckedFilter, PassesNeedTheirFunctions) {
  retort_filter_v1 table{};
  table.struct_size = sizeof(table);
  table.judge = DecideOnce;
  table.n_observe_passes = 1;
  const auto checked = WrapTable(RETORT_FILTER_INTERFACE, &table, "filter");
  ASSERT_FALSE(checked.ok());
  EXPECT_THAT(checked.status().message(), HasSubstr("observe"));
}
TEST(CheckedFilter, NullJudge) {
  retort_filter_v1 table{};
  table.struct_size = sizeof(table);
  const auto checked = WrapTable(RETORT_FILTER_INTERFACE, &table, "filter");
  ASSERT_FALSE(checked.ok());
  EXPECT_THAT(checked.status().message(), HasSubstr("NULL function"));
}

// While one call is inside the plugin, a second one is refused.
CheckedInstance* the_instance = nullptr;
retort_status the_inner_status = RETORT_OK;
retort_status Reenter(retort_instance*, const retort_call* call, uint32_t pass) {
  if (pass == 0) {
    the_inner_status = the_instance->out.filter.end_pass(the_instance->handle(), call, 1);
  }
  return RETORT_OK;
}

TEST(CheckedFilter, SerialInstanceRefusesASecondCall) {
  retort_filter_v1 table{};
  table.struct_size = sizeof(table);
  table.judge = DecideOnce;
  table.end_pass = Reenter;
  const auto checked = WrapTable(RETORT_FILTER_INTERFACE, &table, "filter");
  ASSERT_TRUE(checked.ok());
  the_instance = checked->get();
  PluginCall call("filter x");
  EXPECT_EQ(the_instance->out.filter.end_pass(the_instance->handle(), call.Begin(), 0), RETORT_OK);
  EXPECT_EQ(the_inner_status, RETORT_FAILED_PRECONDITION);
}

TEST(CheckedFamily, ScoreOutOfRange) {
  retort_family_v1 table{};
  table.struct_size = sizeof(table);
  table.match = [](retort_instance*, const retort_call*, retort_str, int32_t* score) {
    *score = 101;
    return retort_status{RETORT_OK};
  };
  table.build = [](retort_instance*, const retort_call*, retort_str, const retort_builder_v1*) {
    return retort_status{RETORT_OK};
  };
  const auto checked = WrapTable(RETORT_FAMILY_INTERFACE, &table, "family");
  ASSERT_TRUE(checked.ok());
  int32_t score = -1;
  PluginCall call("family x");
  const Status status = call.End(
      (*checked)->out.family.match((*checked)->handle(), call.Begin(), {"{}", 2}, &score), "match");
  EXPECT_THAT(status.message(), HasSubstr("match gave 101"));
  EXPECT_EQ(score, 0);
}

TEST(CheckedOptimizer, StateWithoutNameIsRefused) {
  static const retort_state_spec kState{};
  static const retort_optimizer_spec kSpec = {
      sizeof(kSpec), 0, RETORT_GRAIN_ELEMENTWISE, 1, &kState, sizeof(kState)};
  retort_optimizer_v1 table{};
  table.struct_size = sizeof(table);
  table.spec = [](retort_instance*, const retort_call*, const retort_param_info*,
                  const retort_optimizer_spec** out) {
    *out = &kSpec;
    return retort_status{RETORT_OK};
  };
  table.step = [](retort_instance*, const retort_call*, const retort_optimizer_args*) {
    return retort_status{RETORT_OK};
  };
  const auto checked = WrapTable(RETORT_OPTIMIZER_INTERFACE, &table, "optimizer");
  ASSERT_TRUE(checked.ok());
  retort_param_info info{};
  info.name = "w";
  const retort_optimizer_spec* spec = nullptr;
  PluginCall call("optimizer x");
  const Status status = call.End(
      (*checked)->out.optimizer.spec((*checked)->handle(), call.Begin(), &info, &spec), "spec");
  EXPECT_THAT(status.message(), HasSubstr("for param w: a state has no name"));
}

TEST(CheckedLoss, NonFiniteLossNamesTheRow) {
  static retort_loss_spec spec{};
  spec.struct_size = sizeof(spec);
  retort_token_loss_v1 table{};
  table.struct_size = sizeof(table);
  table.spec = [](retort_instance*) -> const retort_loss_spec* { return &spec; };
  table.rows = [](retort_instance*, const retort_call*, const retort_token_loss_args* args) {
    static_cast<float*>(args->loss->data)[0] = std::numeric_limits<float>::infinity();
    static_cast<float*>(args->loss->data)[1] = std::numeric_limits<float>::quiet_NaN();
    return retort_status{RETORT_OK};
  };
  const auto checked = WrapTable(RETORT_TOKEN_LOSS_INTERFACE, &table, "loss");
  ASSERT_TRUE(checked.ok());
  float loss[2] = {}, weight[2] = {0, 1};  // row 0 does not count
  int64_t shape[1] = {2}, strides[1] = {1};
  const retort_dtype f32 = {RETORT_DTYPE_FLOAT, 32, 1};
  retort_tensor loss_R = {loss, {RETORT_DEVICE_CPU, 0}, 1, f32, shape, strides, 0};
  const retort_tensor weight_R = {weight, {RETORT_DEVICE_CPU, 0}, 1, f32, shape, strides, 0};
  retort_token_loss_args args{};
  args.struct_size = sizeof(args);
  args.loss = &loss_R;
  args.weight = &weight_R;
  PluginCall call("loss x");
  const Status status =
      call.End((*checked)->out.token_loss.rows((*checked)->handle(), call.Begin(), &args), "rows");
  EXPECT_EQ(status.code(), Code::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr("row 1"));
}

TEST(Wrap, KindWithoutWrapperIsRefused) {
  EXPECT_EQ(WrapTable("x", nullptr, "spell").status().code(), Code::kUnimplemented);
}

}  // namespace
}  // namespace retort::host
