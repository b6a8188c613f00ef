// What a pipeline file may say, and how it is told what it may not: place, rule, nearest name.
// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <utility>

#include "core/engine/engine.h"
#include "core/json/json.h"
#include "host/pipeline/pipeline.h"

namespace retort::host {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kPath = "/pipes/p.json";

constexpr const char* kWhole = R"({
  // A comment, and trailing commas.
  "retort": 1,
  "name": "demo",
  "models": {"student": "models/student", "teacher": {"path": "/big/teacher"}},
  "data": {"train": {"path": "train.jsonl", "map": {"prompt": "question"}}, "test": "test.jsonl"},
  "stages": [
    {"name": "cot", "kind": "generate", "model": "teacher", "data": "train", "samples": 4,
     "sampling": {"temperature": 0.6}},
    {"name": "clean", "kind": "filter", "data": "@cot", "filters": [
      "length", {"plugin": "reward_threshold", "rewards": ["format"], "config": {"min": 1}}]},
    {"name": "sft", "kind": "sft", "model": "student",
     "data": ["@clean", {"data": "train", "weight": 0.5}], "optimizer": "adamw"},
    {"name": "score", "kind": "eval", "models": ["student", "@sft"], "tasks": [
      {"data": "test", "rewards": ["number_match"], "metrics": ["pass@1", {"loglik": "answer"}]}]},
  ],
})";

Result<PipelineConfig> Parse(std::string text, const Overrides& overrides = {}) {
  return ParsePipeline(text, kPath, overrides);
}

std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  if (at != std::string::npos) text.replace(at, from.size(), to);
  return text;
}

// The error of the whole example with one place changed.
std::string ErrorOf(const std::string& from, const std::string& to) {
  const Result<PipelineConfig> config = Parse(Replaced(kWhole, from, to));
  EXPECT_FALSE(config.ok());
  if (config.ok()) return "";
  EXPECT_EQ(config.status().code(), Code::kInvalidArgument);
  EXPECT_EQ(ExitCode(config.status()), 2);
  return config.status().message();
}

TEST(PipelineConfig, DefaultsAreFilledIn) {
  const Result<PipelineConfig> config = Parse(kWhole);
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_EQ(config->output, "runs/demo");
  EXPECT_EQ(config->seed, 42u);
  ASSERT_EQ(config->stages.size(), 4u);
  const GenerateStage& cot = config->stages[0].generate;
  EXPECT_EQ(cot.samples, 4);
  EXPECT_DOUBLE_EQ(cot.sampling.temperature, 0.6);
  EXPECT_DOUBLE_EQ(cot.sampling.top_p, 1.0);
  EXPECT_EQ(cot.sampling.max_tokens, 256);
  EXPECT_TRUE(cot.chat.enabled);
  const SftStage& sft = config->stages[2].sft;
  EXPECT_DOUBLE_EQ(sft.learning_rate, 2e-5);
  EXPECT_EQ(sft.schedule.kind, "cosine_with_min_lr");
  EXPECT_DOUBLE_EQ(sft.schedule.warmup_ratio, 0.03);
  EXPECT_EQ(sft.batch_tokens, 16384);
  ASSERT_EQ(sft.losses.size(), 1u);
  EXPECT_EQ(sft.losses[0].plugin, "sft");
  EXPECT_DOUBLE_EQ(sft.data[1].weight, 0.5);
  EXPECT_EQ(config->stages[3].eval.tasks[0].name, "test");
  EXPECT_EQ(config->stages[3].eval.tasks[0].sampling.temperature, 0);
}

TEST(PipelineConfig, SamplingAndDecodingOptionsAreRead) {
  const Result<PipelineConfig> config = Parse(
      Replaced(kWhole, R"("sampling": {"temperature": 0.6})",
               R"("sampling": {"min_p": 0.05, "repetition_penalty": 1.1, "presence_penalty": 0.5,
                      "frequency_penalty": -0.25, "logit_bias": {"13": -2.5, "7": 4}},
         "max_batch": 3, "kv_dtype": "int8", "kv_memory": 1048576, "prefill_chunk": 64)"));
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  const GenerateStage& cot = config->stages[0].generate;
  EXPECT_DOUBLE_EQ(cot.sampling.min_p, 0.05);
  EXPECT_DOUBLE_EQ(cot.sampling.repetition_penalty, 1.1);
  EXPECT_DOUBLE_EQ(cot.sampling.presence_penalty, 0.5);
  EXPECT_DOUBLE_EQ(cot.sampling.frequency_penalty, -0.25);
  EXPECT_THAT(cot.sampling.logit_bias, ElementsAre(std::pair(13, -2.5), std::pair(7, 4.0)));
  EXPECT_EQ(cot.decoding.max_batch, 3);
  EXPECT_EQ(cot.decoding.kv_dtype, "int8");
  EXPECT_EQ(cot.decoding.kv_memory, 1048576);
  EXPECT_EQ(cot.decoding.prefill_chunk, 64);
  const EvalTask& task = config->stages[3].eval.tasks[0];
  EXPECT_EQ(task.decoding.kv_dtype, "f32");
  EXPECT_EQ(task.decoding.prefill_chunk, 512);
  EXPECT_TRUE(task.sampling.logit_bias.empty());
}

TEST(PipelineConfig, WrongSamplingAndDecodingOptionsAreRefused) {
  const auto error = [](const std::string& to) { return ErrorOf(R"("temperature": 0.6)", to); };
  EXPECT_THAT(error(R"("logit_bias": {"cat": 1})"), HasSubstr("keys are token ids"));
  EXPECT_THAT(error(R"("logit_bias": {"-1": 1})"), HasSubstr("keys are token ids"));
  EXPECT_THAT(error(R"("logit_bias": {"3": "much"})"), HasSubstr("logit_bias.3"));
  EXPECT_THAT(error(R"("min_p": 1.5)"), HasSubstr("min_p"));
  EXPECT_THAT(error(R"("repetition_penalty": 0)"), HasSubstr("repetition_penalty"));
  EXPECT_THAT(ErrorOf(R"("samples": 4)", R"("kv_dtype": "f16")"), HasSubstr("bf16"));
  EXPECT_THAT(ErrorOf(R"("samples": 4)", R"("kv_memory": -1)"), HasSubstr("kv_memory"));
  EXPECT_THAT(ErrorOf(R"("samples": 4)", R"("prefill_chunk": 0)"), HasSubstr("prefill_chunk"));
  EXPECT_THAT(ErrorOf(R"("samples": 4)", R"("repetition_penalty": 2)"),
              HasSubstr("here it is called sampling.repetition_penalty"));
}

TEST(PipelineConfig, StorageIsOfAModelThatIsNotTrained) {
  const std::string teacher = R"("teacher": {"path": "/big/teacher"})";
  const std::string packed = R"("teacher": {"path": "/big/teacher", "storage": "q4_1"})";
  const Result<PipelineConfig> config = Parse(Replaced(kWhole, teacher, packed));
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_EQ(config->models.at("student").storage, "auto");
  EXPECT_EQ(config->stages[0].generate.model.model.storage, "q4_1");
  // What it is made from changes with it; stages of other models don't.
  const Result<PipelineConfig> before = Parse(kWhole);
  EXPECT_NE(config->stages[0].resolved, before->stages[0].resolved);
  EXPECT_EQ(config->stages[2].resolved, before->stages[2].resolved);

  EXPECT_THAT(
      ErrorOf(teacher, R"("teacher": {"path": "/big/teacher", "storage": "q8"})"),
      AllOf(HasSubstr("models.teacher.storage"), HasSubstr("'q8' is not one of auto, f32")));
  const std::string student = R"("student": "models/student")";
  const std::string narrow = R"("student": {"path": "models/student", "storage": "nf4"})";
  EXPECT_THAT(ErrorOf(student, narrow), AllOf(HasSubstr("stages.sft.model"),
                                              HasSubstr("has storage nf4"), HasSubstr("add lora")));
  const auto with_lora =
      Parse(Replaced(Replaced(kWhole, student, narrow), R"("optimizer": "adamw")",
                     R"("lora": {"r": 8, "targets": "all-linear"})"));
  EXPECT_TRUE(with_lora.ok()) << with_lora.status().ToString();
}

TEST(PipelineConfig, PathsAreRelativeToTheFileOrToTheCallerOfSet) {
  const Result<PipelineConfig> config =
      Parse(kWhole, {.set = {"models.teacher.path=/other", "output=out/x"}});
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_EQ(config->models.at("student").path, "/pipes/models/student");
  EXPECT_EQ(config->models.at("teacher").path, "/other");
  EXPECT_EQ(config->data.at("test").path, "/pipes/test.jsonl");
  EXPECT_EQ(config->output, "out/x");
}

TEST(PipelineConfig, PathOfAVariableBelongsToWhoSetIt) {
  const std::string text =
      Replaced(Replaced(kWhole, R"("models/student")", R"("${where}")"), R"("name": "demo",)",
               R"("name": "demo", "vars": {"where": "here"},)");
  EXPECT_EQ(Parse(text)->models.at("student").path, "/pipes/here");
  const Result<PipelineConfig> set = Parse(text, {.set = {"vars.where=/abs/there"}});
  ASSERT_TRUE(set.ok()) << set.status().ToString();
  EXPECT_EQ(set->models.at("student").path, "/abs/there");
  const Result<PipelineConfig> relative = Parse(text, {.set = {"vars.where=rel"}});
  EXPECT_THAT(relative->models.at("student").path, Not(HasSubstr("/pipes")));
}

TEST(PipelineConfig, InputsAndPluginsOfStagesAreListed) {
  const Result<PipelineConfig> config = Parse(kWhole);
  ASSERT_TRUE(config.ok());
  EXPECT_THAT(config->stages[0].inputs, ElementsAre());
  EXPECT_THAT(config->stages[2].inputs, ElementsAre("clean"));
  EXPECT_THAT(config->stages[3].inputs, ElementsAre("sft"));
  using P = std::pair<std::string, std::string>;
  EXPECT_THAT(
      config->stages[1].plugins,
      ElementsAre(P("filter", "length"), P("filter", "reward_threshold"), P("reward", "format")));
}

TEST(PipelineConfig, ChainEntriesAreWrittenOut) {
  const Result<PipelineConfig> config = Parse(kWhole);
  ASSERT_TRUE(config.ok());
  const Result<json::Document> chain =
      json::Document::Parse(config->stages[1].filter.filters.json, "chain");
  ASSERT_TRUE(chain.ok());
  const json::Value entry = chain->root()[1];
  EXPECT_EQ(entry["plugin"].StringOr(""), "reward_threshold");
  EXPECT_EQ(entry["on_error"].StringOr(""), "skip");
  EXPECT_EQ(entry["rewards"][0]["plugin"].StringOr(""), "format");
  EXPECT_DOUBLE_EQ(entry["rewards"][0]["weight"].DoubleOr(0), 1);
}

TEST(PipelineConfig, ModelsFromNothingHaveAConfigATokenizerAndASeed) {
  const auto student = [](const std::string& model, const std::string& seed = "42") {
    std::string text = Replaced(kWhole, R"("models/student")", model);
    text = Replaced(text, R"("retort": 1,)", R"("retort": 1, "seed": )" + seed + ",");
    return Parse(text).value().models.at("student");
  };
  constexpr const char* kNew =
      R"({"config": {"model_type": "qwen2", "hidden_size": 64}, "tokenizer": "t.json")";
  const ModelConfig made = student(std::string(kNew) + R"(, "init_seed": 7})");
  ASSERT_TRUE(made.blueprint);
  EXPECT_EQ(made.path, "models.student");
  EXPECT_EQ(made.blueprint->config, R"({"model_type":"qwen2","hidden_size":64})");
  EXPECT_EQ(made.blueprint->tokenizer, "/pipes/t.json");
  EXPECT_EQ(made.blueprint->init_seed, 7U);
  const auto seed_of = [&](const char* seed) {
    return student(std::string(kNew) + "}", seed).blueprint->init_seed;
  };
  EXPECT_EQ(seed_of("1"), seed_of("1"));
  EXPECT_NE(seed_of("1"), seed_of("2")) << "by default the pipeline's seed decides";
  const auto error = [](const char* model) { return ErrorOf(R"("models/student")", model); };
  EXPECT_THAT(error(R"({"config": {}, "path": "x"})"), HasSubstr("\"path\", or \"config\""));
  EXPECT_THAT(error("{}"), HasSubstr("models.student: give"));
  EXPECT_THAT(error(R"({"config": {}})"), HasSubstr("needs a \"tokenizer\""));
  EXPECT_THAT(error(R"({"path": "x", "init_seed": 1})"), HasSubstr("models.student.init_seed"));
  EXPECT_THAT(error(R"({"config": {}, "tokenizer": "t", "adapter": "a"})"),
              HasSubstr("models.student.adapter"));
}

TEST(PipelineConfig, UnknownKeyNamesPlaceAndNearestKey) {
  EXPECT_THAT(ErrorOf(R"("samples": 4)", R"("sampels": 4)"),
              AllOf(HasSubstr("/pipes/p.json:8:"), HasSubstr("stages.cot.sampels"),
                    HasSubstr("did you mean 'samples'?")));
}

TEST(PipelineConfig, ForeignNamesHintAtOurs) {
  EXPECT_THAT(ErrorOf(R"("temperature": 0.6)", R"("max_new_tokens": 5)"),
              HasSubstr("here it is called sampling.max_tokens"));
  EXPECT_THAT(ErrorOf(R"("samples": 4)", R"("num_generations": 4)"),
              HasSubstr("here it is called samples"));
  EXPECT_THAT(ErrorOf(R"("optimizer": "adamw")", R"("per_device_train_batch_size": 4)"),
              HasSubstr("here it is called batch.per_device"));
  EXPECT_THAT(ErrorOf(R"("optimizer": "adamw")", R"("lr_scheduler_type": "linear")"),
              HasSubstr("here it is called schedule.kind"));
}

TEST(PipelineConfig, EveryMistakeIsReportedAtOnce) {
  const std::string text = Replaced(Replaced(kWhole, R"("samples": 4)", R"("samples": 0)"),
                                    R"("optimizer")", R"("epoch": 2, "optimizer")");
  const Result<PipelineConfig> config = Parse(text);
  ASSERT_FALSE(config.ok());
  EXPECT_THAT(config.status().message(), AllOf(HasSubstr("stages.cot.samples: 0 is below 1"),
                                               HasSubstr("did you mean 'epochs'?")));
}

TEST(PipelineConfig, WrongTypesAndValuesAreRefused) {
  EXPECT_THAT(ErrorOf(R"("samples": 4)", R"("samples": "four")"),
              HasSubstr("must be a number, not a string"));
  EXPECT_THAT(ErrorOf(R"("samples": 4)", R"("samples": 1.5)"), HasSubstr("whole number"));
  EXPECT_THAT(ErrorOf(R"("optimizer": "adamw")", R"("packing": "bdf")"),
              AllOf(HasSubstr("'bdf' is not one of bfd"), HasSubstr("did you mean 'bfd'?")));
  EXPECT_THAT(ErrorOf(R"("model": "student",)", ""), HasSubstr("stages.sft.model: is needed"));
  EXPECT_THAT(ErrorOf(R"("filters": [)", R"("filters": [[],)"), HasSubstr("must be an object"));
}

TEST(PipelineConfig, KindsOfOtherVersionsAreNamedAsSuch) {
  EXPECT_THAT(ErrorOf(R"("kind": "sft")", R"("kind": "export")"),
              AllOf(HasSubstr("'export' is not supported by this version"),
                    HasSubstr("generate, filter, sft")));
  EXPECT_THAT(ErrorOf(R"("kind": "sft")", R"("kind": "filtre")"),
              HasSubstr("did you mean 'filter'?"));
  EXPECT_THAT(ErrorOf(R"("optimizer": "adamw")", R"("preset": "16gb")"),
              HasSubstr("stages.sft.preset: not supported by this version"));
}

TEST(PipelineConfig, ReferencesMustExistBeEarlierAndOfTheRightKind) {
  EXPECT_THAT(ErrorOf(R"("data": "@cot")", R"("data": "@cto")"),
              AllOf(HasSubstr("there is no such stage"), HasSubstr("did you mean 'cot'?")));
  EXPECT_THAT(ErrorOf(R"("data": "@cot")", R"("data": "@clean")"),
              HasSubstr("is this stage itself"));
  EXPECT_THAT(ErrorOf(R"("data": "train", "samples")", R"("data": "@clean", "samples")"),
              HasSubstr("comes later"));
  EXPECT_THAT(ErrorOf(R"("@sft")", R"("@cot")"), HasSubstr("gives no model"));
  EXPECT_THAT(ErrorOf(R"({"data": "test")", R"({"data": "@sft")"), HasSubstr("gives no samples"));
  EXPECT_THAT(ErrorOf(R"("model": "student")", R"("model": "studnet")"),
              AllOf(HasSubstr("is no name in models"), HasSubstr("did you mean 'student'?")));
  EXPECT_THAT(ErrorOf(R"({"data": "test")", R"({"data": "tets")"), HasSubstr("is no name in data"));
}

TEST(PipelineConfig, StageNamesAreFolderNamesAndUnique) {
  EXPECT_THAT(ErrorOf(R"("name": "clean")", R"("name": "../x")"), HasSubstr("letters, digits"));
  EXPECT_THAT(ErrorOf(R"("name": "clean")", R"("name": "cot")"), HasSubstr("earlier stage"));
}

TEST(PipelineConfig, BatchIsGivenOnce) {
  EXPECT_THAT(
      ErrorOf(R"("optimizer": "adamw")", R"("batch": {"per_device": 2}, "batch_tokens": 100)"),
      HasSubstr("not both"));
  const Result<PipelineConfig> config =
      Parse(Replaced(kWhole, R"("optimizer": "adamw")", R"("batch": {"per_device": 2})"));
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_EQ(config->stages[2].sft.per_device, 2);
  EXPECT_EQ(config->stages[2].sft.batch_tokens, 0);
}

TEST(PipelineConfig, RecomputeIsALevelOrAuto) {
  const auto recompute = [](const std::string& value, const Overrides& overrides = {}) {
    const Result<PipelineConfig> config =
        Parse(Replaced(kWhole, R"("optimizer": "adamw")", value), overrides);
    EXPECT_TRUE(config.ok()) << config.status().ToString();
    return config.ok() ? config->stages[2].sft : SftStage{};
  };
  EXPECT_EQ(recompute(R"("recompute": 2)").recompute, 2);
  EXPECT_EQ(recompute(R"("recompute": 0)").recompute, 0);
  const SftStage automatic = recompute(R"("recompute": "auto", "memory_limit": 8000000000)");
  EXPECT_EQ(automatic.recompute, engine::kRecomputeAuto);
  EXPECT_EQ(automatic.memory_limit, 8000000000);
  const SftStage set = recompute(R"("recompute": 1)", {.set = {"stages.sft.recompute=auto"}});
  EXPECT_EQ(set.recompute, engine::kRecomputeAuto);
  EXPECT_EQ(set.memory_limit, 0);
  const auto error = [](const std::string& to) { return ErrorOf(R"("optimizer": "adamw")", to); };
  EXPECT_THAT(error(R"("recompute": "all")"), HasSubstr("must be a number or 'auto', not 'all'"));
  EXPECT_THAT(error(R"("recompute": 3)"), HasSubstr("3 is above 2"));
  EXPECT_THAT(error(R"("recompute": -1)"), HasSubstr("-1 is below 0"));
  EXPECT_THAT(error(R"("recompute": "auto", "memory_limit": -5)"), HasSubstr("-5 is below 0"));
}

TEST(PipelineConfig, WeightDecayIsTakenOutOfTheOptimizersConfig) {
  const Result<PipelineConfig> config = Parse(Replaced(kWhole, R"("optimizer": "adamw")",
                                                       R"("optimizer": {"plugin": "adamw",
                                      "config": {"weight_decay": 0.1, "beta1": 0.8}})"));
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_DOUBLE_EQ(config->stages[2].sft.weight_decay.value(), 0.1);
  EXPECT_EQ(config->stages[2].sft.optimizer_config, R"({"beta1":0.8})");
}

TEST(PipelineConfig, ParamGroupsGiveARateOrAFactorOfTheStages) {
  const auto parse = [](const std::string& groups) {
    return Parse(
        Replaced(kWhole, R"("optimizer": "adamw")",
                 R"("learning_rate": 0.01, "frozen": ["embed"], "param_groups": )" + groups));
  };
  const Result<PipelineConfig> config = parse(
      R"([{"pattern": "a", "learning_rate": 0.03}, {"pattern": "b", "lr_scale": 0.5,
           "weight_decay": 0.2}, {"pattern": "c"}])");
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  const SftStage& sft = config->stages[2].sft;
  ASSERT_EQ(sft.param_groups.size(), 3u);
  EXPECT_DOUBLE_EQ(sft.param_groups[0].lr_scale, 3);
  EXPECT_DOUBLE_EQ(sft.param_groups[1].lr_scale, 0.5);
  EXPECT_EQ(sft.param_groups[1].weight_decay, 0.2);
  EXPECT_EQ(sft.param_groups[2].lr_scale, 1);
  EXPECT_FALSE(sft.param_groups[2].weight_decay.has_value());
  EXPECT_FALSE(sft.weight_decay.has_value());
  EXPECT_EQ(sft.frozen, std::vector<std::string>{"embed"});
  EXPECT_THAT(parse(R"([{"pattern": "a", "learning_rate": 1, "lr_scale": 1}])").status().message(),
              HasSubstr("give learning_rate or lr_scale, not both"));
  EXPECT_THAT(parse(R"([{"lr_scale": 1}])").status().message(), HasSubstr("pattern: is needed"));
}

TEST(PipelineConfig, BrokenJsonNamesLineAndColumn) {
  const Result<PipelineConfig> config = Parse("{\n  \"retort\": 1,\n  \"name\" \"x\"}");
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(ExitCode(config.status()), 2);
  EXPECT_THAT(config.status().message(), HasSubstr("p.json:3:"));
}

TEST(PipelineConfig, MissingFileIsTheUsersMistake) {
  const Result<PipelineConfig> config = LoadPipeline("/nowhere/p.json", {});
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(ExitCode(config.status()), 2);
  EXPECT_THAT(config.status().message(), HasSubstr("/nowhere/p.json"));
}

TEST(Overrides, SetReachesStagesByNameAndListsByIndex) {
  const Result<PipelineConfig> config =
      Parse(kWhole, {.set = {"stages.sft.learning_rate=1e-5", "stages.3.tasks.0.samples=2",
                             "stages.cot.sampling.stop=[\"END\"]", "seed=7", "name=123",
                             "stages.clean.filters.reward_threshold.config.min=0.5"}});
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_DOUBLE_EQ(config->stages[2].sft.learning_rate, 1e-5);
  EXPECT_EQ(config->stages[3].eval.tasks[0].samples, 2);
  EXPECT_THAT(config->stages[0].generate.sampling.stop, ElementsAre("END"));
  EXPECT_EQ(config->seed, 7u);
  EXPECT_EQ(config->name, "123");
  EXPECT_THAT(config->stages[1].filter.filters.json, HasSubstr("\"min\":0.5"));
}

TEST(Overrides, SetOpensShorthands) {
  const Result<PipelineConfig> config =
      Parse(kWhole, {.set = {"stages.clean.filters.length.config.max_tokens=9",
                             "models.student.chat_format=qwen3"}});
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_THAT(config->stages[1].filter.filters.json, HasSubstr("\"max_tokens\":9"));
  EXPECT_EQ(config->models.at("student").chat_format, "qwen3");
}

TEST(Overrides, BadSetsAreRefused) {
  const auto error = [](const std::string& set) {
    const Result<PipelineConfig> config = Parse(kWhole, {.set = {set}});
    EXPECT_FALSE(config.ok()) << set;
    return config.ok() ? "" : config.status().message();
  };
  EXPECT_THAT(error("stages.sft"), HasSubstr("expected path.of.key=value"));
  EXPECT_THAT(error("stages.stf.epochs=1"), HasSubstr("did you mean 'sft'?"));
  EXPECT_THAT(error("stages.sft.epoch=1"),
              AllOf(HasSubstr("--set stages.sft.epoch=1"), HasSubstr("did you mean 'epochs'?")));
  EXPECT_THAT(error("name.x=1"), HasSubstr("can't be set in it"));
  EXPECT_THAT(error("stages..x=1"), HasSubstr("empty part"));
}

constexpr const char* kProfiles = R"("name": "demo",
  "profiles": {"tiny": {"stages.sft.max_steps": 3, "models.student": "tiny/model"}},)";

TEST(Overrides, ProfilesApplyBeforeSet) {
  const std::string text = Replaced(kWhole, R"("name": "demo",)", kProfiles);
  EXPECT_EQ(Parse(text)->stages[2].sft.max_steps, -1);
  const Result<PipelineConfig> tiny = Parse(text, {.profile = "tiny"});
  ASSERT_TRUE(tiny.ok()) << tiny.status().ToString();
  EXPECT_EQ(tiny->stages[2].sft.max_steps, 3);
  EXPECT_EQ(tiny->models.at("student").path, "/pipes/tiny/model");
  EXPECT_EQ(
      Parse(text, {.profile = "tiny", .set = {"stages.sft.max_steps=5"}})->stages[2].sft.max_steps,
      5);
  const Result<PipelineConfig> wrong = Parse(text, {.profile = "tinny"});
  ASSERT_FALSE(wrong.ok());
  EXPECT_THAT(wrong.status().message(), HasSubstr("did you mean 'tiny'?"));
}

TEST(Variables, AreExpandedInStringsWithTheirType) {
  setenv("RETORT_TEST_VAR", "from env", 1);
  const std::string text =
      Replaced(Replaced(kWhole, R"("name": "demo",)",
                        R"("name": "demo", "vars": {"n": 3, "a": "${b}!", "b": "bee"},)"),
               R"("samples": 4)",
               R"("samples": "${n}", "prefix": "${a} ${env.RETORT_TEST_VAR} $${n} $5 ${name}")");
  const Result<PipelineConfig> config = Parse(text);
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_EQ(config->stages[0].generate.samples, 3);
  EXPECT_EQ(config->stages[0].generate.prefix, "bee! from env ${n} $5 demo");
}

TEST(Variables, UnknownAndCircularOnesAreRefused) {
  const auto error = [](const std::string& vars, const std::string& use) {
    const Result<PipelineConfig> config = Parse(
        Replaced(Replaced(kWhole, R"("name": "demo",)", R"("name": "demo", "vars": )" + vars + ","),
                 R"("samples": 4)", R"("prefix": ")" + use + R"(")"));
    EXPECT_FALSE(config.ok());
    return config.ok() ? "" : config.status().message();
  };
  EXPECT_THAT(error(R"({"model": "x"})", "${modle}"),
              AllOf(HasSubstr("p.json:8:"), HasSubstr("did you mean 'model'?")));
  EXPECT_THAT(error(R"({"a": "${b}", "b": "${a}"})", "${a}"), HasSubstr("refers to itself"));
  EXPECT_THAT(error("{}", "${env.RETORT_NOT_SET_ANYWHERE}"), HasSubstr("RETORT_NOT_SET_ANYWHERE"));
}

TEST(Canonical, ChangesWithWhatMattersAlone) {
  const auto of = [](const std::string& text, const Overrides& overrides = {}) {
    return Parse(text, overrides)->stages[0].resolved;
  };
  const std::string base = of(kWhole);
  EXPECT_EQ(of(Replaced(kWhole, R"("samples": 4,)", R"("samples":   4,)")), base);
  EXPECT_EQ(of(kWhole, {.set = {"stages.sft.epochs=3", "output=elsewhere"}}), base);
  EXPECT_EQ(of(kWhole, {.set = {"data.train.path=/moved.jsonl"}}), base);
  EXPECT_NE(of(kWhole, {.set = {"stages.cot.samples=5"}}), base);
  EXPECT_NE(of(kWhole, {.set = {"seed=1"}}), base);
  EXPECT_NE(of(kWhole, {.set = {"data.train.map.prompt=other"}}), base);
}

TEST(ExitCodes, FollowTheTable) {
  EXPECT_EQ(ExitCode(OkStatus()), 0);
  EXPECT_EQ(ExitCode(InvalidArgument("x")), 2);
  EXPECT_EQ(ExitCode(Cancelled("x")), 75);
  EXPECT_EQ(ExitCode(ResourceExhausted("x")), 75);
  EXPECT_EQ(ExitCode(Unavailable("x")), 75);
  EXPECT_EQ(ExitCode(DataLoss("x")), 1);
  EXPECT_EQ(ExitCode(NotFound("x")), 1);
  EXPECT_EQ(ExitCode(Internal("x")), 1);
}

}  // namespace
}  // namespace retort::host
