// Which tokens an example trains, written out by hand. TRL's rules: the prompt is masked, the
// completion and the token that ends the turn are trained; a text is trained whole.
// SPDX-License-Identifier: Apache-2.0
#include "core/data/sft_example.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <string>

namespace retort::data {
namespace {

std::unique_ptr<text::Tokenizer> LoadTokenizer(const std::string& name, std::string_view config) {
  std::ifstream in(std::string(RETORT_SOURCE_DIR) + "/tests/golden/tokenizers/" + name + ".json",
                   std::ios::binary);
  const std::string json{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  return std::move(text::Tokenizer::FromJson(json, config, name)).value();
}

class SftExampleTest : public testing::Test {
 protected:
  // "untrained[trained]untrained…" of an example, decoded; trained spans in brackets.
  std::string Marked(const SftExample& example) const {
    std::string out;
    for (size_t t = 0; t < example.ids.size(); ++t) {
      const bool now = example.trained[t] != 0, before = t > 0 && example.trained[t - 1] != 0;
      if (now != before) out += now ? "[" : "]";
      out += tokenizer_->Decode(std::span(&example.ids[t], 1)).value();
    }
    return out + (example.trained.back() != 0 ? "]" : "");
  }
  std::string OfRecord(std::string_view line, const SftOptions& options) const {
    const auto record = ParseRecord(line, "f:1", {});
    EXPECT_TRUE(record.ok()) << record.status().ToString();
    SftBuild build;
    const Status status = AddRecord(*record, options, &build);
    if (!status.ok()) return status.ToString();
    if (build.examples.empty()) return "(none)";
    std::string out;
    for (const SftExample& e : build.examples) out += (out.empty() ? "" : " / ") + Marked(e);
    return out;
  }
  std::string OfSample(const Sample& sample, const SftOptions& options) const {
    SftBuild build;
    const Status status = AddSample(sample, options, &build);
    if (!status.ok()) return status.ToString();
    if (build.unfinished > 0) return "(unfinished)";
    return build.examples.empty() ? "(none)" : Marked(build.examples[0]);
  }
  SftOptions Chat(TrainOn train_on = TrainOn::kCompletion) const {
    return {.prompt = {.tokenizer = tokenizer_.get(), .chat = &chat_, .system = ""},
            .train_on = train_on};
  }
  SftOptions Plain(TrainOn train_on = TrainOn::kCompletion) const {
    return {.prompt = {.tokenizer = tokenizer_.get(), .chat = nullptr, .system = ""},
            .train_on = train_on};
  }

  std::unique_ptr<text::Tokenizer> tokenizer_ =
      LoadTokenizer("qwen2", R"({"eos_token":"<|endoftext|>"})");
  text::ChatFormat chat_ = std::move(text::ChatFormat::Create("chatml", "", "", "")).value();
};

constexpr std::string_view kTalk =
    R"({"messages":[{"role":"system","content":"S"},{"role":"user","content":"a"},)"
    R"({"role":"assistant","content":"b"},{"role":"user","content":"c"},)"
    R"({"role":"assistant","content":"d"}]})";

TEST_F(SftExampleTest, OnlyTheLastAnswerIsTrained) {
  EXPECT_EQ(OfRecord(kTalk, Chat()),
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n"
            "<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
            "<|im_start|>assistant\n[d<|im_end|>]");
}

TEST_F(SftExampleTest, AssistantTrainsEveryAnswer) {
  EXPECT_EQ(OfRecord(kTalk, Chat(TrainOn::kAssistant)),
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n"
            "<|im_start|>assistant\n[b<|im_end|>]\n<|im_start|>user\nc<|im_end|>\n"
            "<|im_start|>assistant\n[d<|im_end|>]");
}

TEST_F(SftExampleTest, AllTrainsEverything) {
  const std::string marked = OfRecord(kTalk, Chat(TrainOn::kAll));
  EXPECT_TRUE(marked.starts_with("[<|im_start|>system")) << marked;
  EXPECT_EQ(marked.find(']'), marked.size() - 1);
}

TEST_F(SftExampleTest, WhatFollowsTheLastAnswerIsLeftOut) {
  EXPECT_EQ(OfRecord(R"({"messages":[{"role":"user","content":"a"},)"
                     R"({"role":"assistant","content":"b"},{"role":"user","content":"c"}]})",
                     Chat()),
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[b<|im_end|>]");
}

TEST_F(SftExampleTest, PromptsBecomeUserMessages) {
  EXPECT_EQ(OfRecord(R"({"prompt":"q","completion":"<think>\nx\n</think>\n1"})", Chat()),
            "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
            "[<think>\nx\n</think>\n1<|im_end|>]");
  SftOptions with_system = Chat();
  with_system.prompt.system = "S";
  EXPECT_EQ(OfRecord(R"({"prompt":"q","completion":"a"})", with_system),
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nq<|im_end|>\n"
            "<|im_start|>assistant\n[a<|im_end|>]");
}

TEST_F(SftExampleTest, WithoutChatTheEosEndsACompletion) {
  EXPECT_EQ(OfRecord(R"({"prompt":"q: ","completion":"a"})", Plain()), "q: [a<|endoftext|>]");
  EXPECT_EQ(OfRecord(R"({"text":"a b"})", Plain()), "[a b<|endoftext|>]");
  EXPECT_EQ(OfRecord(R"({"text":"a b<|endoftext|>"})", Plain()), "[a b<|endoftext|>]");
}

TEST_F(SftExampleTest, ReasoningIsPartOfTheAnswer) {
  EXPECT_EQ(OfRecord(R"({"messages":[{"role":"user","content":"a"},)"
                     R"({"role":"assistant","content":"b","reasoning":"r"}]})",
                     Chat()),
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
            "[<think>\nr\n</think>\n\nb<|im_end|>]");
}

TEST_F(SftExampleTest, EachFinishedGenerationIsAnExample) {
  EXPECT_EQ(OfRecord(R"({"problem":"p","generations":["g","h","i"],)"
                     R"("finish_reasons":["stop","length",null]})",
                     Chat()),
            "<|im_start|>user\np<|im_end|>\n<|im_start|>assistant\n[g<|im_end|>] / "
            "<|im_start|>user\np<|im_end|>\n<|im_start|>assistant\n[i<|im_end|>]");
}

TEST_F(SftExampleTest, NothingToTrainOnIsAnError) {
  EXPECT_NE(OfRecord(R"({"prompt":"q"})", Chat()).find("f:1: nothing to train on"),
            std::string::npos);
  EXPECT_NE(OfRecord(R"({"messages":[{"role":"user","content":"a"}]})", Chat())
                .find("nothing to train on"),
            std::string::npos);
  EXPECT_NE(OfRecord(kTalk, Plain()).find("chat.format"), std::string::npos);
}

TEST_F(SftExampleTest, TruncationAsAskedFor) {
  SftOptions options = Plain();
  options.max_length = 4;
  const std::string line = R"({"prompt":"1","completion":"23456"})";
  options.truncation = Truncation::kDrop;
  EXPECT_EQ(OfRecord(line, options), "(none)");
  options.truncation = Truncation::kKeepStart;
  EXPECT_EQ(OfRecord(line, options), "1[234]");
  options.truncation = Truncation::kError;
  EXPECT_NE(OfRecord(line, options).find("7 tokens, over max_length 4"), std::string::npos);
  // What is left may have nothing to train.
  options.truncation = Truncation::kKeepStart;
  EXPECT_EQ(OfRecord(R"({"prompt":"12345","completion":"6"})", options), "(none)");
}

Sample Sampled(const text::Tokenizer& tokenizer) {
  Sample s;
  s.prompt = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n";
  s.completion = "ab";
  s.messages = {{"user", "q", ""}};
  s.prompt_ids = tokenizer.Encode(s.prompt).value();
  // Not how the tokenizer would encode "ab": ids must be kept, not made anew.
  s.completion_ids = {*tokenizer.TokenToId("a"), *tokenizer.TokenToId("b"),
                      *tokenizer.TokenToId("<|im_end|>")};
  s.tokenizer = tokenizer.hash();
  return s;
}

TEST_F(SftExampleTest, SampledIdsAreTrainedAsTheyAre) {
  const Sample s = Sampled(*tokenizer_);
  SftBuild build;
  ASSERT_TRUE(AddSample(s, Chat(), &build).ok());
  ASSERT_EQ(build.examples.size(), 1U);
  std::vector<int32_t> ids = s.prompt_ids;
  ids.insert(ids.end(), s.completion_ids.begin(), s.completion_ids.end());
  EXPECT_EQ(build.examples[0].ids, ids);
  EXPECT_EQ(Marked(build.examples[0]),
            "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n[ab<|im_end|>]");
}

TEST_F(SftExampleTest, AnotherTokenizersSampleGoesByItsText) {
  Sample s = Sampled(*tokenizer_);
  s.tokenizer = "another";
  s.prompt = "Q: q A:";  // the teacher's rendering: the student renders the messages itself
  s.completion_ids = {0};
  EXPECT_EQ(OfSample(s, Chat()),
            "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n[ab<|im_end|>]");
  EXPECT_EQ(OfSample(s, Plain()), "Q: q A:[ab<|endoftext|>]");
}

TEST_F(SftExampleTest, ASampleCutByLengthHasNoEnd) {
  Sample s = Sampled(*tokenizer_);
  s.finish = "length";
  s.completion_ids.pop_back();
  EXPECT_EQ(OfSample(s, Chat()), "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n[ab]");
  s.tokenizer = "another";
  EXPECT_EQ(OfSample(s, Chat()), "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n[ab]");
}

// Its ids hold the stop string, its text doesn't: the text counts, and the turn is ended.
TEST_F(SftExampleTest, AStopStringIsNotTrained) {
  Sample s = Sampled(*tokenizer_);
  s.completion_ids.back() = *tokenizer_->TokenToId("!");
  EXPECT_EQ(OfSample(s, Chat()),
            "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n[ab<|im_end|>]");
}

TEST_F(SftExampleTest, FailedSamplesAreCounted) {
  Sample s = Sampled(*tokenizer_);
  s.finish = "error";
  EXPECT_EQ(OfSample(s, Chat()), "(unfinished)");
}

TEST_F(SftExampleTest, PromptIdsAreThoseOfGeneration) {
  const auto record = ParseRecord(R"({"prompt":"12 + 30?","completion":"42"})", "f:1", {});
  const auto prompt = BuildPrompt(*record, Chat().prompt);
  ASSERT_TRUE(prompt.ok());
  SftBuild build;
  ASSERT_TRUE(AddRecord(*record, Chat(), &build).ok());
  const auto& ids = build.examples[0].ids;
  ASSERT_GT(ids.size(), prompt->ids.size());
  EXPECT_TRUE(std::equal(prompt->ids.begin(), prompt->ids.end(), ids.begin()));
  EXPECT_EQ(build.examples[0].trained[prompt->ids.size() - 1], 0);
  EXPECT_EQ(build.examples[0].trained[prompt->ids.size()], 1);
}

// Llama-3 style: the rendered text brings its own bos; a verbatim one gets it from the tokenizer.
TEST(SftBos, IsThereOnce) {
  const auto tokenizer =
      LoadTokenizer("llama3", R"({"bos_token":"<|begin_of_text|>","eos_token":"<|eot_id|>"})");
  const auto chat =
      std::move(text::ChatFormat::Create("llama3", "", "<|begin_of_text|>", "")).value();
  const auto record = ParseRecord(R"({"prompt":"a","completion":"b"})", "f:1", {});
  for (const text::ChatFormat* format : {static_cast<const text::ChatFormat*>(nullptr), &chat}) {
    SftBuild build;
    ASSERT_TRUE(AddRecord(*record, {.prompt = {tokenizer.get(), format, ""}}, &build).ok());
    const auto& ids = build.examples[0].ids;
    EXPECT_EQ(std::count(ids.begin(), ids.end(), tokenizer->bos_id()), 1);
    EXPECT_EQ(ids[0], tokenizer->bos_id());
    EXPECT_EQ(ids.back(), tokenizer->eos_id());
  }
}

}  // namespace
}  // namespace retort::data
