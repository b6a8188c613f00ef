// The checked wrapper, before any call: drafts, flags, sizes, functions that belong together.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/plugin/table_fixture.h"

namespace retort::host {
namespace {

using testing::AllOf;
using testing::HasSubstr;

retort_op_v1 Op() {
  retort_op_v1 table{};
  table.struct_size = sizeof(table);
  table.infer = [](retort_instance*, const retort_call*, retort_op_shapes*) {
    return retort_status{RETORT_OK};
  };
  table.forward = [](retort_instance*, const retort_call*, const retort_op_args*) {
    return retort_status{RETORT_OK};
  };
  return table;
}

retort_reward_v1 Reward() {
  retort_reward_v1 table{};
  table.struct_size = sizeof(table);
  table.score = [](retort_instance*, const retort_call*, const retort_reward_args*) {
    return retort_status{RETORT_OK};
  };
  return table;
}

std::string ErrorOf(const char* id, const void* table, const char* kind,
                    uint32_t minor = RETORT_ABI_MINOR) {
  const auto wrapped = WrapOne(id, table, kind, minor);
  EXPECT_FALSE(wrapped.ok());
  return wrapped.ok() ? "" : wrapped.status().ToString();
}

TEST(CheckedTables, DraftWorksOnlyWithTheSameMinor) {
  const retort_op_v1 op = Op();
  EXPECT_TRUE(WrapOne(RETORT_OP_INTERFACE, &op, "op").ok());
  EXPECT_THAT(ErrorOf(RETORT_OP_INTERFACE, &op, "op", RETORT_ABI_MINOR + 1),
              AllOf(HasSubstr("FAILED_PRECONDITION"), HasSubstr("retort.op/0 is a draft"),
                    HasSubstr("built with 1.1, this retort has 1.0"), HasSubstr("SDK")));
}

TEST(CheckedTables, StableWorksWithAnyMinor) {
  const retort_reward_v1 reward = Reward();
  EXPECT_TRUE(WrapOne(RETORT_REWARD_INTERFACE, &reward, "reward", RETORT_ABI_MINOR + 7).ok());
}

TEST(CheckedTables, UnknownFlagIsRefusedAndAHintIgnored) {
  retort_reward_v1 reward = Reward();
  reward.flags = RETORT_REWARD_PURE | 1U << 16;
  EXPECT_TRUE(WrapOne(RETORT_REWARD_INTERFACE, &reward, "reward").ok());
  reward.flags = 1U << 4;
  EXPECT_THAT(ErrorOf(RETORT_REWARD_INTERFACE, &reward, "reward"),
              AllOf(HasSubstr("UNIMPLEMENTED"), HasSubstr("flag bits"), HasSubstr("16")));
}

TEST(CheckedTables, SizeMustBeOfSomeVersion) {
  retort_reward_v1 reward = Reward();
  reward.struct_size = sizeof(reward) + 64;
  EXPECT_TRUE(WrapOne(RETORT_REWARD_INTERFACE, &reward, "reward").ok());
  reward.struct_size = sizeof(reward) - 8;
  EXPECT_THAT(ErrorOf(RETORT_REWARD_INTERFACE, &reward, "reward"), HasSubstr("at least 24"));
  reward.struct_size = 0xFFFFFFFF;
  EXPECT_THAT(ErrorOf(RETORT_REWARD_INTERFACE, &reward, "reward"), HasSubstr("no version can"));
}

TEST(CheckedTables, EveryKindNamesItsMissingTable) {
  for (const auto& [kind, id] : {std::pair{"op", "retort.op/0"},
                                 {"source", "retort.source/0"},
                                 {"generator", "retort.generator/0"},
                                 {"loss", "retort.loss.token/0 nor retort.loss.sequence/0"}}) {
    EXPECT_THAT(ErrorOf("none", nullptr, kind), HasSubstr(std::string("no interface ") + id));
  }
  EXPECT_THAT(ErrorOf("none", nullptr, "spell"), HasSubstr("can't run plugins of kind spell"));
}

TEST(CheckedTables, SourceNeedsAllFunctions) {
  retort_source_v1 source{};
  source.struct_size = sizeof(source);
  source.next = [](retort_instance*, const retort_call*, uint64_t, void*,
                   void (*)(void*, const retort_record*),
                   int32_t*) { return retort_status{RETORT_OK}; };
  EXPECT_THAT(ErrorOf(RETORT_SOURCE_INTERFACE, &source, "source"), HasSubstr("NULL function"));
}

TEST(CheckedTables, OptimizerSavesAndLoadsOrNeither) {
  retort_optimizer_v1 table{};
  table.struct_size = sizeof(table);
  table.spec = [](retort_instance*, const retort_call*, const retort_param_info*,
                  const retort_optimizer_spec**) { return retort_status{RETORT_OK}; };
  table.step = [](retort_instance*, const retort_call*, const retort_optimizer_args*) {
    return retort_status{RETORT_OK};
  };
  EXPECT_TRUE(WrapOne(RETORT_OPTIMIZER_INTERFACE, &table, "optimizer").ok());
  table.save = [](retort_instance*, const retort_call*, const retort_sink*) {
    return retort_status{RETORT_OK};
  };
  EXPECT_THAT(ErrorOf(RETORT_OPTIMIZER_INTERFACE, &table, "optimizer"), HasSubstr("save and load"));
}

}  // namespace
}  // namespace retort::host
