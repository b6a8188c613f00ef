// Models that are yet to be made: what they look like, and what is refused.
// SPDX-License-Identifier: Apache-2.0
#include "core/model/blueprint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace retort::model {
namespace {

using testing::HasSubstr;

constexpr const char* kFolder = RETORT_SOURCE_DIR "/examples/addition/tokenizer";

Result<std::unique_ptr<Source>> Open(const std::string& config, uint64_t seed = 1,
                                     const std::string& tokenizer = kFolder) {
  return OpenBlueprint({.config = config, .tokenizer = tokenizer, .init_seed = seed}, "models.m");
}

TEST(Blueprint, IsASourceWithoutTensors) {
  const auto source = Open(R"({"model_type": "qwen2", "rope_theta": 10000.0})", 9).value();
  EXPECT_EQ(source->path(), "models.m");
  EXPECT_EQ(source->init_seed(), 9U);
  EXPECT_TRUE(source->tensors().empty());
  EXPECT_EQ(source->config().root()["vocab_size"].IntOr(0), 15) << "the tokenizer's";
  EXPECT_EQ(source->config().root()["rope_theta"].DoubleOr(0), 10000);
  EXPECT_THAT(source->tokenizer_json(), HasSubstr("\"BPE\""));
  EXPECT_THAT(source->tokenizer_config_json(), HasSubstr("eos_token"));
}

TEST(Blueprint, FileOfTheTokenizerIsEnough) {
  const auto source = Open(R"({"model_type": "qwen2", "vocab_size": 64})", 1,
                           std::string(kFolder) + "/tokenizer.json")
                          .value();
  EXPECT_EQ(source->config().root()["vocab_size"].IntOr(0), 64);
  EXPECT_EQ(source->tokenizer_config_json(), "");
}

TEST(Blueprint, FingerprintChangesWithEveryPart) {
  const auto print = [](const std::string& config, uint64_t seed) {
    return Open(config, seed).value()->Fingerprint().value();
  };
  const std::string first = print(R"({"model_type": "qwen2"})", 1);
  EXPECT_EQ(print(R"({"model_type": "qwen2"})", 1), first);
  EXPECT_NE(print(R"({"model_type": "qwen2"})", 2), first);
  EXPECT_NE(print(R"({"model_type": "qwen3"})", 1), first);
}

TEST(Blueprint, WrongPartsAreNamed) {
  const auto error = [](const std::string& config, const std::string& tokenizer = kFolder) {
    return Open(config, 1, tokenizer).status().message();
  };
  EXPECT_THAT(error("{}"), HasSubstr("models.m: config: has no model_type"));
  EXPECT_THAT(error(R"({"model_type": "qwen2", "vocab_size": 14})"),
              HasSubstr("vocab_size is 14, but"));
  EXPECT_THAT(error(R"({"model_type": "qwen2", "vocab_size": "x"})"), HasSubstr("models.m"));
  EXPECT_THAT(error(R"({"model_type": "qwen2"})", "/nowhere"),
              HasSubstr("tokenizer: cannot look up /nowhere"));
  EXPECT_THAT(error(R"({"model_type": "qwen2"})", RETORT_SOURCE_DIR "/docs"),
              HasSubstr("no tokenizer.json"));
}

}  // namespace
}  // namespace retort::model
