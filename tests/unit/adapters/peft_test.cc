// Adapter folders: what is written is read back, what is wrong is named.
// SPDX-License-Identifier: Apache-2.0
#include "core/model/peft.h"

#include <algorithm>
#include <cmath>

#include "core/io/safetensors.h"
#include "tests/unit/adapters/adapted_model.h"
#include "tests/unit/io/temp_folder.h"

namespace retort::engine::test {
namespace {

using graph::LoraSpec;
using io::TempFolder;

const LoraSpec kSpec = {.r = 3,
                        .alpha = 5,
                        .dropout = 0.125,
                        .rslora = true,
                        .targets = {"qkv", "down"},
                        .rank_pattern = {{"layers.1.qkv", 2}},
                        .alpha_pattern = {{"0.down", 7.5}}};

void Write(const AdaptedModel<float>& model, const std::string& folder,
           const LoraSpec& spec = kSpec) {
  const auto written =
      model::WriteAdapterFolder(io::RealFileSystem(), folder, {.tokenizer_json = "{}"}, "../base",
                                model.graph, 0, spec, model.views);
  ASSERT_TRUE(written.ok()) << written.status().ToString();
  EXPECT_EQ(written->size(), 3U);
}

TEST(AdapterFolder, ComesBackAsItWas) {
  const TempFolder temp;
  AdaptedModel<float> model({kSpec}, /*fused=*/true);
  const std::string folder = temp / "adapter";
  Write(model, folder);
  EXPECT_TRUE(model::IsAdapterFolder(folder));
  const auto config = model::ReadPeftConfig(folder);
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_EQ(config->base, "../base");
  EXPECT_EQ(config->lora.r, 3);
  EXPECT_EQ(config->lora.alpha, 5);
  EXPECT_EQ(config->lora.dropout, 0.125);
  EXPECT_TRUE(config->lora.rslora);
  EXPECT_EQ(config->lora.rank_pattern, (std::map<std::string, int64_t>{{"layers.1.qkv", 2}}));
  EXPECT_EQ(config->lora.alpha_pattern, (std::map<std::string, double>{{"layers.0.down", 7.5}}));
  AdaptedModel<float> again({config->lora}, /*fused=*/true);
  ASSERT_EQ(again.graph.params.size(), model.graph.params.size());
  const auto clear = [&](size_t p) {
    std::fill(again.storage[p].begin(), again.storage[p].end(), NAN);
  };
  for (size_t p = 0; p < again.storage.size(); ++p) clear(p);
  ASSERT_TRUE(model::LoadAdapter(folder, again.graph, 0, again.views).ok());
  for (size_t p = 0; p < model.graph.params.size(); ++p) {
    const graph::Param& param = model.graph.params[p];
    if (param.adapter < 0) continue;
    EXPECT_EQ(again.Values(param.name), model.storage[p]) << param.name;
  }
}

TEST(AdapterFolder, TargetsAreShortWhereThatSaysTheSame) {
  const TempFolder temp;
  const auto targets = [&](std::vector<std::string> wanted) {
    const LoraSpec spec = {.r = 2, .targets = std::move(wanted)};
    Write(AdaptedModel<float>({spec}), temp / "x", spec);
    const std::string text = io::ReadAll(temp / "x/adapter_config.json");
    const size_t begin = text.find("\"target_modules\"");
    std::string list = text.substr(begin, text.find(']', begin) - begin);
    std::erase_if(list, [](char c) { return c == ' ' || c == '\n' || c == '"'; });
    return list;
  };
  EXPECT_EQ(targets({"q", "up"}), "target_modules:[q,up");
  EXPECT_EQ(targets({"all-linear"}), "target_modules:[down,gate,k,o,q,up,v");
  EXPECT_EQ(targets({"layers.1.q", "up"}), "target_modules:[layers.0.up,layers.1.q,layers.1.up");
}

TEST(AdapterFolder, PatternsOfPeftAreRegularExpressions) {
  const TempFolder temp;
  const LoraSpec spec = {.r = 3, .targets = {"q", "k"}};
  Write(AdaptedModel<float>({spec}), temp / "x", spec);
  temp.Write("x/adapter_config.json", R"({"peft_type": "LORA", "r": 8, "lora_alpha": 4,
      "rank_pattern": {"[qk]": 3}, "alpha_pattern": {"^layers\\.1.*": 9}, "unknown": [1]})");
  const auto config = model::ReadPeftConfig(temp / "x");
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_EQ(config->lora.rank_pattern.size(), 4U);
  EXPECT_EQ(config->lora.alpha_pattern,
            (std::map<std::string, double>{{"layers.1.k", 9}, {"layers.1.q", 9}}));
}

void ExpectConfigRefused(const std::string& json, const std::string& rule) {
  const TempFolder temp;
  const LoraSpec spec = {.r = 3, .targets = {"q"}};
  Write(AdaptedModel<float>({spec}), temp / "x", spec);
  temp.Write("x/adapter_config.json", json);
  const auto config = model::ReadPeftConfig(temp / "x");
  ASSERT_FALSE(config.ok()) << json;
  EXPECT_NE(config.status().message().find(rule), std::string::npos) << config.status().ToString();
  EXPECT_NE(config.status().message().find(temp.path()), std::string::npos);
}

TEST(AdapterFolder, AValueHeadLiesInItsFile) {
  const LoraSpec spec = {.r = 2, .targets = {"q"}};
  for (const bool reward_model : {false, true}) {
    const TempFolder temp;
    const TinySpec tiny = {.value_head = true, .reward_model = reward_model};
    AdaptedModel<float> model({spec}, /*fused=*/false, tiny);
    graph::GiveHeadTo(model.graph, 0);
    Write(model, temp / "x", spec);
    const auto config = model::ReadPeftConfig(temp / "x");
    ASSERT_TRUE(config.ok()) << config.status().ToString();
    EXPECT_TRUE(config->value_head);
    EXPECT_EQ(config->reward_model, reward_model);
    EXPECT_EQ(config->lora.targets, (std::vector<std::string>{"layers.0.q", "layers.1.q"}));
    AdaptedModel<float> again({config->lora}, /*fused=*/false, tiny);
    graph::GiveHeadTo(again.graph, 0);
    std::fill(again.Values("score.weight").begin(), again.Values("score.weight").end(), 7.0F);
    ASSERT_TRUE(model::InitAdapter(again.graph, 0, 1, again.views).ok());
    EXPECT_EQ(again.Values("score.weight")[0], 7);  // the base's loading gives its first values
    ASSERT_TRUE(model::LoadAdapter(temp / "x", again.graph, 0, again.views).ok());
    EXPECT_EQ(again.Values("score.weight"), model.Values("score.weight"));
  }
}

TEST(AdapterFolder, AHeadOfAnotherShapeOrNoneIsRefused) {
  const LoraSpec spec = {.r = 3, .targets = {"q"}};
  ExpectConfigRefused(R"({"peft_type": "LORA", "r": 3, "task_type": "SEQ_CLS"})",
                      "\"base_model.model.score.weight\" is not there");
  const TempFolder temp;
  AdaptedModel<float> model({spec}, /*fused=*/false, {.value_head = true});
  graph::GiveHeadTo(model.graph, 0);
  const size_t head = model.IndexOf("score.weight");
  model.views[head] = TensorView::Contiguous(model.storage[head].data(), DType::kF32, {2, 8});
  Write(model, temp / "x", spec);
  const auto config = model::ReadPeftConfig(temp / "x");
  ASSERT_FALSE(config.ok());
  EXPECT_NE(config.status().message().find("a value head has one row"), std::string::npos)
      << config.status().ToString();
}

TEST(AdapterFolder, RefusesByNameWhatItCantDo) {
  ExpectConfigRefused(R"({"peft_type": "IA3"})", "only LORA");
  ExpectConfigRefused(R"({"peft_type": "LORA", "r": 3, "use_dora": true})", "use_dora");
  ExpectConfigRefused(R"({"peft_type": "LORA", "r": 3, "bias": "all"})", "bias is \"all\"");
  ExpectConfigRefused(R"({"peft_type": "LORA", "r": 3, "fan_in_fan_out": true})", "fan_in_fan_out");
  ExpectConfigRefused(R"({"peft_type": "LORA", "r": 3, "modules_to_save": ["lm_head"]})",
                      "modules_to_save has \"lm_head\"");
  ExpectConfigRefused(R"({"peft_type": "LORA", "r": 3, "init_lora_weights": "pissa"})", "pissa");
  ExpectConfigRefused(R"({"peft_type": "LORA", "r": 3, "layer_replication": [[0, 1]]})",
                      "layer_replication");
  ExpectConfigRefused(R"({"peft_type": "LORA", "r": "x"})", ": r: ");
  ExpectConfigRefused(R"({"peft_type": "LORA", "r": 4})", "has rank 3");
  ExpectConfigRefused(R"({"peft_type": "LORA", "r": 3, "rank_pattern": {"(": 1}})", "rank_pattern");
  ExpectConfigRefused(R"([])", "must be a JSON object");
  ExpectConfigRefused(R"({"peft_type": "LORA")", "adapter_config.json");
}

TEST(AdapterFolder, RefusesWeightsThatAreNoPairs) {
  const std::string prefix = "base_model.model.layers.0.q.";
  std::vector<float> numbers(64);
  const auto expect = [&](const std::vector<std::pair<std::string, std::vector<int64_t>>>& tensors,
                          const std::string& rule) {
    const TempFolder temp;
    temp.Write("adapter_config.json", R"({"peft_type": "LORA", "r": 2})");
    std::vector<io::SafetensorsItem> items;
    for (const auto& [name, shape] : tensors) {
      items.push_back(
          {.name = name, .view = TensorView::Contiguous(numbers.data(), DType::kF32, shape)});
    }
    ASSERT_TRUE(io::WriteSafetensors(io::RealFileSystem(), temp / "adapter_model.safetensors",
                                     std::move(items))
                    .ok());
    const auto config = model::ReadPeftConfig(temp.path());
    ASSERT_FALSE(config.ok()) << rule;
    EXPECT_NE(config.status().message().find(rule), std::string::npos)
        << config.status().ToString();
  };
  expect({{prefix + "lora_A.weight", {2, 4}}}, "but not");
  expect({{prefix + "lora_A.weight", {2, 4}}, {prefix + "lora_B.weight", {4, 3}}},
         "differ in rank");
  expect({{prefix + "lora_A.weight", {2, 2, 2}}, {prefix + "lora_B.weight", {4, 2}}},
         "two dimensions");
  expect({{prefix + "weight", {2, 4}}}, "a weight trained as a whole");
  expect({{"base_model.model.embed.lora_embedding_A", {2, 4}}}, "an adapter of an embedding");
  expect({{"layers.0.q.lora_A.weight", {2, 4}}}, "no name of a LoRA weight");
  expect({}, "there are no weights");
}

TEST(AdapterFolder, SaysHowItDoesntFitTheModel) {
  const TempFolder temp;
  const LoraSpec spec = {.r = 3, .targets = {"q", "k"}};
  Write(AdaptedModel<float>({spec}), temp / "x", spec);
  const auto load = [&](const LoraSpec& other, const TinySpec& tiny) {
    AdaptedModel<float> model({other}, false, tiny);
    const Status status = model::LoadAdapter(temp / "x", model.graph, 0, model.views);
    EXPECT_FALSE(status.ok());
    return status.message();
  };
  EXPECT_NE(load(spec, {.width = 8}).find("the model needs [3, 8]"), std::string::npos);
  EXPECT_NE(load({.r = 3, .targets = {"q"}}, {}).find("k.lora_A.weight\" is of no module"),
            std::string::npos);
  EXPECT_NE(load({.r = 3, .targets = {"q", "k", "v"}}, {}).find("v.lora_A.weight\" is missing"),
            std::string::npos);
}

TEST(AdapterFolder, RefusesNumbersThatArentFinite) {
  const TempFolder temp;
  const LoraSpec spec = {.r = 3, .targets = {"q"}};
  AdaptedModel<float> model({spec});
  model.storage.back()[5] = INFINITY;
  Write(model, temp / "x", spec);
  const Status status = model::LoadAdapter(temp / "x", model.graph, 0, model.views);
  EXPECT_EQ(status.code(), Code::kDataLoss);
  EXPECT_NE(status.message().find("isn't finite"), std::string::npos);
}

TEST(AdapterFolder, FindsItsBaseBesideItOrHere) {
  const TempFolder temp;
  for (const char* folder : {"base", "adapter"}) {
    ASSERT_TRUE(io::RealFileSystem().MakeFolders(temp / folder).ok());
  }
  temp.Write("base/config.json", "{}");
  temp.Write("adapter/adapter_config.json", "{}");
  const auto find = [&](const std::string& base) {
    return model::FindAdapterBase(temp / "adapter", {.lora = {}, .base = base});
  };
  EXPECT_EQ(*find("../base"), temp / "base");
  EXPECT_EQ(*find(temp / "base"), temp / "base");
  EXPECT_EQ(find("").status().code(), Code::kNotFound);
  EXPECT_NE(find("org/model").status().message().find("\"org/model\""), std::string::npos);
  EXPECT_FALSE(model::IsAdapterFolder(temp / "base"));
}

TEST(AdapterFolder, APickleIsNeverRead) {
  const TempFolder temp;
  temp.Write("adapter_config.json", R"({"peft_type": "LORA"})");
  temp.Write("adapter_model.bin", "x");
  EXPECT_NE(model::ReadPeftConfig(temp.path()).status().message().find("pickle"),
            std::string::npos);
}

TEST(InitAdapter, FollowsPeftsRuleAndTheSeed) {
  AdaptedModel<float> model(Specs{{.r = 4}}), same(Specs{{.r = 4}}), other(Specs{{.r = 4}});
  ASSERT_TRUE(model::InitAdapter(model.graph, 0, 1, model.views).ok());
  ASSERT_TRUE(model::InitAdapter(same.graph, 0, 1, same.views).ok());
  ASSERT_TRUE(model::InitAdapter(other.graph, 0, 2, other.views).ok());
  EXPECT_EQ(model.storage, same.storage);
  const std::vector<float>& a = model.Values("layers.0.down.lora_A.default.weight");
  EXPECT_NE(a, other.Values("layers.0.down.lora_A.default.weight"));
  const float bound = 1 / std::sqrt(24.0F);
  float largest = 0;
  double squares = 0;
  for (const float v : a) {
    EXPECT_LE(std::abs(v), bound);
    largest = std::max(largest, std::abs(v));
    squares += static_cast<double>(v) * static_cast<double>(v);
  }
  EXPECT_GT(largest, 0.9F * bound);
  EXPECT_NEAR(squares / static_cast<double>(a.size()), bound * bound / 3, 0.3 * bound * bound / 3);
  for (const float v : model.Values("layers.0.down.lora_B.default.weight")) EXPECT_EQ(v, 0);
}

}  // namespace
}  // namespace retort::engine::test
