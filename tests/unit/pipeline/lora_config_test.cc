// The key `lora`: what it holds by default, what it changes elsewhere, what it may not say.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/json/json.h"
#include "host/pipeline/config/config.h"

namespace retort::host {
namespace {

using testing::AllOf;
using testing::HasSubstr;

Result<PipelineConfig> Parse(const std::string& stages, const std::string& student = "\"m/s\"",
                             const Overrides& overrides = {}) {
  return ParsePipeline(R"({"retort": 1, "name": "x", "models": {"student": )" + student +
                           R"(}, "data": {"d": "d.jsonl"}, "stages": [)" + stages + "]}",
                       "/pipes/p.json", overrides);
}

std::string Sft(const std::string& more, const std::string& name = "sft",
                const std::string& model = "student") {
  return R"({"name": ")" + name + R"(", "kind": "sft", "model": ")" + model +
         R"(", "data": "d", )" + more + "}";
}

std::string ErrorOf(const std::string& stages, const std::string& student = "\"m/s\"") {
  const Result<PipelineConfig> config = Parse(stages, student);
  EXPECT_FALSE(config.ok()) << stages;
  return config.ok() ? "" : config.status().message();
}

TEST(LoraKey, DefaultsAndAnAdaptersLearningRate) {
  const auto config = Parse(Sft(R"("lora": {})") + "," + Sft(R"("epochs": 1)", "full"));
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  const SftStage& sft = config->stages[0].sft;
  ASSERT_TRUE(sft.lora.has_value());
  EXPECT_EQ(sft.lora->r, 16);
  EXPECT_EQ(sft.lora->alpha, 32);
  EXPECT_EQ(sft.lora->dropout, 0);
  EXPECT_FALSE(sft.lora->rslora);
  EXPECT_EQ(sft.lora->targets, std::vector<std::string>{"all-linear"});
  EXPECT_EQ(sft.learning_rate, 1e-4);
  EXPECT_FALSE(config->stages[1].sft.lora.has_value());
  EXPECT_EQ(config->stages[1].sft.learning_rate, 2e-5);
  EXPECT_THAT(config->resolved_json, HasSubstr("\"all-linear\""));
}

TEST(LoraKey, IsReadWholly) {
  const auto config = Parse(Sft(R"("learning_rate": 3e-4, "lora": {"r": 4, "alpha": 6.5,
      "dropout": 0.1, "use_rslora": true, "targets": ["q_proj", "1.*.up_proj"],
      "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"up_proj": 1.5}})"));
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  const graph::LoraSpec& lora = *config->stages[0].sft.lora;
  EXPECT_EQ(lora.r, 4);
  EXPECT_EQ(lora.alpha, 6.5);
  EXPECT_EQ(lora.dropout, 0.1);
  EXPECT_TRUE(lora.rslora);
  EXPECT_EQ(lora.targets, (std::vector<std::string>{"q_proj", "1.*.up_proj"}));
  EXPECT_EQ(lora.rank_pattern, (std::map<std::string, int64_t>{{"q_proj", 2}}));
  EXPECT_EQ(lora.alpha_pattern, (std::map<std::string, double>{{"up_proj", 1.5}}));
  EXPECT_EQ(config->stages[0].sft.learning_rate, 3e-4);
}

TEST(LoraKey, NullIsNone) {
  const auto config =
      Parse(Sft(R"("lora": {"r": 4})"), "\"m/s\"", {.set = {"stages.sft.lora=null"}});
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_FALSE(config->stages[0].sft.lora.has_value());
  EXPECT_EQ(config->stages[0].sft.learning_rate, 2e-5);
}

TEST(LoraKey, ForeignNamesHintAtOurs) {
  EXPECT_THAT(ErrorOf(Sft(R"("lora": {"lora_alpha": 8})")), HasSubstr("lora.alpha"));
  EXPECT_THAT(ErrorOf(Sft(R"("lora": {"target_modules": ["q_proj"]})")), HasSubstr("lora.targets"));
  EXPECT_THAT(ErrorOf(Sft(R"("lora": {"rslora": true})")), HasSubstr("lora.use_rslora"));
  EXPECT_THAT(ErrorOf(Sft(R"("lora_r": 8)")), HasSubstr("lora.r"));
  EXPECT_THAT(ErrorOf(Sft(R"("use_peft": true)")), HasSubstr("here it is called lora"));
  EXPECT_THAT(ErrorOf(Sft(R"("lora": {"use_dora": true})")), HasSubstr("not supported"));
}

TEST(LoraKey, WrongValuesAreRefused) {
  EXPECT_THAT(ErrorOf(Sft(R"("lora": {"r": 0})")), HasSubstr("stages.sft.lora.r: 0 is below 1"));
  EXPECT_THAT(ErrorOf(Sft(R"("lora": {"dropout": 1})")), HasSubstr("lora.dropout"));
  EXPECT_THAT(ErrorOf(Sft(R"("lora": {"targets": []})")), HasSubstr("is an empty list"));
  EXPECT_THAT(ErrorOf(Sft(R"("lora": {"rank_pattern": {"q": 1.5}})")),
              HasSubstr("rank_pattern.q: must be a whole number"));
  EXPECT_THAT(ErrorOf(Sft(R"("lora": 8)")), HasSubstr("must be an object"));
}

TEST(LoraKey, AnAdapterIsTrainedFurtherAsAnAdapterAlone) {
  const std::string first = Sft(R"("lora": {"r": 4})", "one") + ",";
  EXPECT_THAT(ErrorOf(first + Sft(R"("epochs": 1)", "two", "@one")),
              AllOf(HasSubstr("stages.two.model"), HasSubstr("add lora")));
  EXPECT_TRUE(Parse(first + Sft(R"("lora": {"r": 4})", "two", "@one")).ok());
}

TEST(AdapterKey, IsAPathBesideTheModels) {
  const auto config = Parse(Sft(R"("lora": {})"), R"({"path": "m/s", "adapter": "adapters/x"})");
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_EQ(config->stages[0].sft.model.model.path, "/pipes/m/s");
  EXPECT_EQ(config->stages[0].sft.model.model.adapter, "/pipes/adapters/x");
}

}  // namespace
}  // namespace retort::host
