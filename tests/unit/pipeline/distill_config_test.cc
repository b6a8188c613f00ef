// Keys of a distill stage: those of sft and the teacher's.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "host/pipeline/config/config.h"

namespace retort::host {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Result<PipelineConfig> Parse(const std::string& keys) {
  return ParsePipeline(R"({
    "retort": 1, "name": "demo",
    "models": {"student": "/m/student", "teacher": {"path": "/m/teacher", "storage": "q8_0"}},
    "data": {"train": "train.jsonl"},
    "stages": [
      {"name": "big", "kind": "sft", "model": "teacher", "lora": {}, "data": "train"},
      {"name": "kd", "kind": "distill", "model": "student", "data": "train")" +
                           keys + R"(},
      {"name": "next", "kind": "sft", "model": "@kd", "data": "train"}]})",
                       "/pipes/p.json", {});
}

std::string ErrorOf(const std::string& keys) {
  const auto config = Parse(keys);
  EXPECT_FALSE(config.ok());
  return config.ok() ? "" : config.status().message();
}

TEST(DistillConfig, DefaultsAreHintons) {
  const auto config = Parse(R"(, "teacher": "teacher")");
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  const StageConfig& stage = config->stages[1];
  EXPECT_EQ(stage.kind, StageKind::kDistill);
  EXPECT_EQ(stage.training(), &stage.sft);
  EXPECT_EQ(stage.sft.model.text, "student");
  ASSERT_EQ(stage.sft.losses.size(), 2U);
  EXPECT_EQ(stage.sft.losses[0].plugin, "kd");
  EXPECT_DOUBLE_EQ(stage.sft.losses[0].weight, 0.7);
  EXPECT_EQ(stage.sft.losses[1].plugin, "sft");
  EXPECT_DOUBLE_EQ(stage.sft.losses[1].weight, 0.3);
  EXPECT_EQ(stage.distill.teacher.model.storage, "q8_0");
  EXPECT_EQ(stage.distill.teacher_top_k, 0);
  EXPECT_EQ(stage.distill.on_policy, 0);
  ASSERT_EQ(stage.Models().size(), 2U);
  EXPECT_EQ(stage.Models()[1], &stage.distill.teacher);
}

TEST(DistillConfig, TeacherMayBeAStage) {
  const auto config = Parse(R"(, "teacher": "@big", "teacher_top_k": 64, "teacher_cache": "rows")");
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  const StageConfig& stage = config->stages[1];
  EXPECT_THAT(stage.inputs, ElementsAre("big"));
  EXPECT_EQ(stage.distill.teacher_top_k, 64);
  EXPECT_EQ(stage.distill.teacher_cache, "/pipes/rows");
  EXPECT_THAT(config->stages[2].inputs, ElementsAre("kd"));
}

TEST(DistillConfig, PlaceOfTheCacheChangesNothing) {
  const auto a = Parse(R"(, "teacher": "teacher", "teacher_top_k": 8, "teacher_cache": "a")");
  const auto b = Parse(R"(, "teacher": "teacher", "teacher_top_k": 8, "teacher_cache": "b")");
  const auto c = Parse(R"(, "teacher": "teacher", "teacher_top_k": 9, "teacher_cache": "b")");
  ASSERT_TRUE(a.ok() && b.ok() && c.ok());
  EXPECT_EQ(a->stages[1].resolved, b->stages[1].resolved);
  EXPECT_NE(b->stages[1].resolved, c->stages[1].resolved);
}

TEST(DistillConfig, WrongKeysAreRefused) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("teacher: is needed"));
  EXPECT_THAT(ErrorOf(R"(, "teacher": "@next")"), HasSubstr("comes later"));
  EXPECT_THAT(ErrorOf(R"(, "teacher": "teacher", "teacher_cache": "a")"),
              HasSubstr("set teacher_top_k"));
  EXPECT_THAT(ErrorOf(R"(, "teacher": "teacher", "teacher_top_k": 8, "on_policy": 0.5)"),
              HasSubstr("own samples need the teacher beside it"));
  EXPECT_THAT(ErrorOf(R"(, "teacher": "teacher", "teacher_top_k": 8, "packing": "wrapped")"),
              HasSubstr("use bfd"));
  EXPECT_THAT(ErrorOf(R"(, "teacher": "teacher", "on_policy": 1.5)"), HasSubstr("on_policy"));
  EXPECT_THAT(ErrorOf(R"(, "teacher": "teacher", "lmbda": 0.5)"),
              HasSubstr("here it is called on_policy"));
  EXPECT_THAT(ErrorOf(R"(, "teacher": "teacher", "students": ["a"])"),
              HasSubstr("not supported by this version"));
}

}  // namespace
}  // namespace retort::host
