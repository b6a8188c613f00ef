// Which texts make a pair, and where its labels are.
// SPDX-License-Identifier: Apache-2.0
#include "core/data/preference.h"

#include <gmock/gmock.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <string>

namespace retort::data {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<text::Tokenizer> LoadTokenizer() {
  std::ifstream in(std::string(RETORT_SOURCE_DIR) + "/tests/golden/tokenizers/qwen2.json",
                   std::ios::binary);
  const std::string json{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  return std::move(
      text::Tokenizer::FromJson(json, R"({"eos_token":"<|endoftext|>"})", "qwen2").value());
}

class PreferenceTest : public testing::Test {
 protected:
  SftOptions Plain() const {
    return {.prompt = {.tokenizer = tokenizer_.get(), .chat = nullptr, .system = ""}};
  }
  SftOptions Chat() const {
    return {.prompt = {.tokenizer = tokenizer_.get(), .chat = &chat_, .system = ""}};
  }
  Status Add(std::string_view line, const SftOptions& options) {
    const auto record = ParseRecord(line, "f:1", {});
    return record.ok() ? AddPreference(*record, options, &build_) : record.status();
  }
  // "preferred | other" of a pair; checks that the labels are the last tokens.
  std::string Texts(size_t pair) const {
    const SftExample& example = build_.build.examples.at(pair);
    const auto split = static_cast<size_t>(build_.pairs.at(pair).split);
    for (size_t t = 0; t < example.ids.size(); ++t) {
      EXPECT_EQ(example.trained[t] != 0, t + 1 == split || t + 1 == example.ids.size());
    }
    const std::span<const int32_t> ids = example.ids;
    return *tokenizer_->Decode(ids.first(split)) + " | " + *tokenizer_->Decode(ids.subspan(split));
  }
  static Sample Scored(uint64_t uid, const char* completion, std::vector<RewardScore> rewards) {
    Sample sample;
    sample.uid = uid;
    sample.prompt = "p ";
    sample.completion = completion;
    sample.rewards = std::move(rewards);
    return sample;
  }

  std::unique_ptr<text::Tokenizer> tokenizer_ = LoadTokenizer();
  text::ChatFormat chat_ = std::move(text::ChatFormat::Create("chatml", "", "", "")).value();
  PairBuild build_;
};

TEST_F(PreferenceTest, APromptAndTwoCompletions) {
  ASSERT_TRUE(Add(R"({"prompt":"p ","chosen":"yes","rejected":"no"})", Plain()).ok());
  EXPECT_EQ(Texts(0), "p yes<|endoftext|> | p no<|endoftext|>");
  EXPECT_EQ(build_.pairs[0].better, 1);
  EXPECT_EQ(build_.pairs[0].worse, 0);
  ASSERT_TRUE(Add(R"({"prompt":"p ","chosen":"a","rejected":"b","margin":2.5})", Plain()).ok());
  EXPECT_EQ(build_.pairs[1].better, 2.5F);
}

TEST_F(PreferenceTest, MessagesInAllTheirForms) {
  const std::string want =
      "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nA<|im_end|> | "
      "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nB<|im_end|>";
  const std::string a = R"({"role":"assistant","content":"A"})",
                    q = R"({"role":"user","content":"q"})",
                    b = R"({"role":"assistant","content":"B"})";
  for (const std::string& line :
       {R"({"prompt":"q","chosen":"A","rejected":"B"})" + std::string(),
        R"({"prompt":"q","chosen":[)" + a + R"(],"rejected":[)" + b + "]}",
        R"({"prompt":[)" + q + R"(],"chosen":[)" + a + R"(],"rejected":[)" + b + "]}",
        R"({"chosen":[)" + q + "," + a + R"(],"rejected":[)" + q + "," + b + "]}",
        R"({"prompt":"q","chosen":[)" + q + "," + a + R"(],"rejected":[)" + q + "," + b + "]}"}) {
    ASSERT_TRUE(Add(line, Chat()).ok()) << line << Add(line, Chat()).ToString();
    EXPECT_EQ(Texts(build_.pairs.size() - 1), want) << line;
  }
}

TEST_F(PreferenceTest, WhatIsLeftOutIsCounted) {
  SftOptions options = Plain();
  options.max_length = 6;
  ASSERT_TRUE(Add(R"({"prompt":"p ","chosen":"same","rejected":"same"})", options).ok());
  ASSERT_TRUE(Add(R"({"prompt":"p ","chosen":"a b c d e f g h i","rejected":"no"})", options).ok());
  EXPECT_TRUE(build_.pairs.empty());
  EXPECT_EQ(build_.equal, 1);
  EXPECT_EQ(build_.build.too_long, 1);
}

TEST_F(PreferenceTest, WrongColumnsAreNamed) {
  EXPECT_THAT(Add(R"({"prompt":"p","completion":"c"})", Plain()).message(),
              HasSubstr("f:1: there is no column 'chosen'"));
  EXPECT_THAT(Add(R"({"prompt":"p","chosen":"a","rejected":"b","margin":"x"})", Plain()).message(),
              HasSubstr("column 'margin' must be a number"));
  EXPECT_THAT(
      Add(R"({"prompt":"p","chosen":[{"role":"user","content":"q"}],"rejected":"b"})", Chat())
          .message(),
      HasSubstr("column 'chosen': the last message must be the assistant's answer"));
}

TEST_F(PreferenceTest, BestAndWorstOfAGroup) {
  const std::vector<Sample> group = {
      Scored(1, "a", {{"math", 0.0}, {"style", 2.0}}), Scored(2, "b", {{"math", 1.0}}),
      Scored(3, "c", {{"math", std::nullopt}}), Scored(4, "d", {{"math", 0.5}, {"style", 0.0}})};
  ASSERT_TRUE(AddBestAndWorst(group, Plain(), "", &build_).ok());
  ASSERT_TRUE(AddBestAndWorst(group, Plain(), "math", &build_).ok());
  EXPECT_EQ(Texts(0), "p a<|endoftext|> | p d<|endoftext|>");
  EXPECT_EQ(Texts(1), "p b<|endoftext|> | p a<|endoftext|>");
  EXPECT_EQ(build_.pairs[0].better, 2);
  EXPECT_EQ(build_.pairs[0].worse, 0.5F);
  ASSERT_TRUE(AddBestAndWorst(group, Plain(), "other", &build_).ok());
  ASSERT_TRUE(AddBestAndWorst(std::span(group).first(1), Plain(), "", &build_).ok());
  EXPECT_EQ(build_.equal, 2);
}

}  // namespace
}  // namespace retort::data
