// What holds a policy: the reference that follows it, examples beside its completions, the limit
// of its divergence; and what a grpo stage refuses of them.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/json/json.h"
#include "host/pipeline/config/config.h"
#include "host/pipeline/stages/cold_start.h"
#include "host/pipeline/stages/policy_reference.h"
#include "host/pipeline/stages/policy_scores.h"

namespace retort::host {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

engine::StateTensor Param(const std::string& name, std::vector<float>& values) {
  return {name, TensorView::Contiguous(values.data(), DType::kF32,
                                       {static_cast<int64_t>(values.size())})};
}

// TRL's SyncRefModelCallback: ref.mul_(1 - alpha).add_(policy, alpha=alpha).
TEST(PolicyReference, IsMixedWithThePolicyByTrlsFormula) {
  std::vector<float> head = {9}, policy = {1.5F, -0.25F, 1e-3F}, ref = {0.5F, 0.75F, -2};
  const std::vector<float> before = ref;
  const std::vector<engine::StateTensor> from = {Param("score.weight", head), Param("w", policy)};
  const std::vector<engine::StateTensor> to = {Param("w", ref)};
  ASSERT_TRUE(MixIntoReference(from, to, 0.6).ok());
  for (size_t i = 0; i < ref.size(); ++i) {
    const double want = 0.6 * static_cast<double>(policy[i]) + 0.4 * static_cast<double>(before[i]);
    EXPECT_NEAR(ref[i], want, 2e-7 * std::abs(want)) << i;
  }
  ASSERT_TRUE(MixIntoReference(from, to, 1).ok());
  EXPECT_EQ(ref, policy);
  ASSERT_TRUE(MixIntoReference(from, to, 0).ok());
  EXPECT_EQ(ref, policy);
}

TEST(PolicyReference, OfAnotherArchitectureCanNotFollow) {
  std::vector<float> three = {1, 2, 3}, two = {1, 2};
  const auto error = [](std::vector<engine::StateTensor> from, engine::StateTensor to) {
    const std::vector<engine::StateTensor> reference = {std::move(to)};
    return MixIntoReference(from, reference, 0.5).message();
  };
  EXPECT_THAT(error({Param("w", three)}, Param("v", three)),
              AllOf(HasSubstr("sync_ref_model: v of the reference is no param of the policy"),
                    HasSubstr("same architecture")));
  EXPECT_THAT(error({Param("w", three)}, Param("w", two)), HasSubstr("another shape"));
  engine::StateTensor narrow = Param("w", two);
  narrow.view.dtype = DType::kBF16;
  EXPECT_THAT(error({Param("w", two)}, narrow), HasSubstr("both must be f32"));
}

TEST(ColdStart, ExamplesAreAShareOfTheStepsSequences) {
  EXPECT_EQ(ColdStartExamples(0.1, 90), 10);  // 10 of 100
  EXPECT_EQ(ColdStartExamples(0.1, 32), 4);   // 3.6
  EXPECT_EQ(ColdStartExamples(0.5, 7), 7);
  EXPECT_EQ(ColdStartExamples(0.001, 8), 1);
}

TEST(PolicyScores, DivergenceIsTheMeanOverTrainedTokens) {
  Rollouts rollouts;
  rollouts.samples.resize(3);
  rollouts.samples[2].n_prefix = 1;
  rollouts.advantage = {0.5, kNone, -0.5};
  const std::vector<std::vector<float>> old = {{-1, -2}, {-3}, {-4, -5}};
  const std::vector<std::vector<float>> now = {{-1.5F, -2}, {-30}, {-40, -4.5F}};
  const size_t samples[] = {0, 1, 2};
  // Of token 0, token 1, and the one after the prefix; the second sample isn't trained on.
  const double want = (std::exp(-0.5) - 1 + 0.5 + 0 + std::exp(0.5) - 1 - 0.5) / 3;
  EXPECT_NEAR(MeanDivergence(rollouts, old, samples, now), want, 1e-12);
  EXPECT_EQ(MeanDivergence(rollouts, old, {}, {}), 0);
}

Result<PipelineConfig> Parse(const std::string& more, const std::string& reference = "\"m/r\"") {
  return ParsePipeline(R"({"retort": 1, "name": "x", "models": {"m": "m/m", "r": )" + reference +
                           R"(}, "data": {"d": "d.jsonl", "cold": "c.jsonl"}, "stages": [
      {"name": "rl", "kind": "grpo", "model": "m", "data": "d", "rewards": ["format"], )" +
                           more + "}]}",
                       "/pipes/p.json", {});
}
std::string ErrorOf(const std::string& more, const std::string& reference = "\"m/r\"") {
  const Result<PipelineConfig> config = Parse(more, reference);
  EXPECT_FALSE(config.ok()) << more;
  return config.ok() ? "" : config.status().message();
}

TEST(PolicyKeys, DefaultsAreTrls) {
  const auto config = Parse(R"("sync_ref_model": true)");
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  const GrpoStage& g = config->stages[0].grpo;
  EXPECT_TRUE(g.sync_ref_model);
  EXPECT_EQ(g.ref_model_mixup_alpha, 0.6);
  EXPECT_EQ(g.ref_model_sync_steps, 512);
  EXPECT_EQ(g.target_kl, 0);
  EXPECT_FALSE(g.cold_start.has_value());
}

TEST(PolicyKeys, ColdStartBringsItsLoss) {
  const auto config = Parse(R"("cold_start": {"data": ["cold", {"data": "d", "weight": 2}],
      "ratio": 0.2, "max_length": 64, "limit": 5})");
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  const GrpoStage& g = config->stages[0].grpo;
  ASSERT_TRUE(g.cold_start.has_value());
  EXPECT_EQ(g.cold_start->data.size(), 2U);
  EXPECT_EQ(g.cold_start->max_length, 64);
  EXPECT_EQ(g.cold_start->limit, 5);
  ASSERT_EQ(g.losses.size(), 2U);
  EXPECT_EQ(g.losses[0].plugin, "grpo");
  EXPECT_EQ(g.losses[1].plugin, "sft");
  EXPECT_EQ(g.losses[1].name, "cold_start");
  EXPECT_EQ(g.losses[1].weight, 0.25);  // a fifth of the sequences beside four
  const auto given = Parse(R"("cold_start": {"data": "cold", "ratio": 0.2, "weight": 3})");
  ASSERT_TRUE(given.ok()) << given.status().ToString();
  EXPECT_EQ(given->stages[0].grpo.losses[1].weight, 3);
}

TEST(PolicyKeys, WhatCanNotBeIsRefused) {
  EXPECT_THAT(ErrorOf(R"("sync_ref_model": true, "lora": {"r": 4})"),
              AllOf(HasSubstr("stages.rl.sync_ref_model: with lora the reference is the frozen"),
                    HasSubstr("p.json:2:")));
  EXPECT_THAT(ErrorOf(R"("sync_ref_model": true, "reference": "r")",
                      R"({"path": "m/r", "storage": "q8_0"})"),
              HasSubstr("'r' has storage q8_0; leave storage out"));
  EXPECT_THAT(ErrorOf(R"("ref_model_mixup_alpha": 1.5)"), HasSubstr("1.5 is above 1"));
  EXPECT_THAT(ErrorOf(R"("ref_model_sync_steps": 0)"), HasSubstr("0 is below 1"));
  EXPECT_THAT(ErrorOf(R"("target_kl": 0.1)"),
              AllOf(HasSubstr("stages.rl.target_kl"), HasSubstr("num_iterations")));
  EXPECT_THAT(ErrorOf(R"("max_kl": 0.1)"), HasSubstr("here it is called target_kl"));
  EXPECT_THAT(ErrorOf(R"("cold_start": {"data": "cold"})"),
              HasSubstr("stages.rl.cold_start.ratio: is needed"));
  EXPECT_THAT(ErrorOf(R"("cold_start": {"data": "cold", "ratio": 0})"), HasSubstr("is below"));
  EXPECT_THAT(ErrorOf(R"("cold_start": {"data": "cold", "ratio": 1})"), HasSubstr("is above"));
  EXPECT_THAT(ErrorOf(R"("cold_start": {"data": "colt", "ratio": 0.1})"),
              AllOf(HasSubstr("stages.rl.cold_start.data"), HasSubstr("did you mean 'cold'?")));
}

}  // namespace
}  // namespace retort::host
