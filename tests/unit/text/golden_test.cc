// Token ids and decoded text against HF tokenizers, on a small tokenizer of each kind
// (tests/peers/make_tokenizer_goldens.py made the files).
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "core/json/json.h"
#include "core/text/tokenizer.h"

namespace retort::text {
namespace {

const std::string kFolder = std::string(RETORT_SOURCE_DIR) + "/tests/golden/tokenizers/";

std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}
std::vector<json::Document> ReadLines(const std::string& path) {
  std::vector<json::Document> lines;
  std::ifstream in(path, std::ios::binary);
  for (std::string line; std::getline(in, line);) {
    lines.push_back(std::move(json::Document::Parse(line, path)).value());
  }
  return lines;
}
std::vector<int32_t> Ids(const json::Value& list) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < list.size(); ++i) ids.push_back(static_cast<int32_t>(list[i].IntOr(-1)));
  return ids;
}

class TokenizerGolden : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string name = GetParam();
    auto loaded = Tokenizer::FromJson(ReadAll(kFolder + name + ".json"), "", name);
    ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
    tokenizer_ = std::move(loaded).value();
    texts_ = ReadLines(kFolder + "texts.jsonl");
    goldens_ = ReadLines(kFolder + name + ".ids.jsonl");
    ASSERT_GT(texts_.size(), 100U);
    ASSERT_EQ(texts_.size(), goldens_.size());
  }
  std::string Text(size_t i) const { return std::string(texts_[i].root()["text"].StringOr("")); }

  std::unique_ptr<Tokenizer> tokenizer_;
  std::vector<json::Document> texts_, goldens_;
};

TEST_P(TokenizerGolden, EncodeGivesTheIdsOfHfTokenizers) {
  for (size_t i = 0; i < texts_.size(); ++i) {
    const json::Value golden = goldens_[i].root();
    EXPECT_EQ(tokenizer_->Encode(Text(i)).value(), Ids(golden["ids"])) << texts_[i].root().Dump();
    const json::Value plain = golden["plain"] ? golden["plain"] : golden["ids"];
    EXPECT_EQ(tokenizer_->Encode(Text(i), {.add_special_tokens = false}).value(), Ids(plain))
        << texts_[i].root().Dump();
  }
}

TEST_P(TokenizerGolden, DecodeGivesTheTextOfHfTokenizers) {
  for (size_t i = 0; i < texts_.size(); ++i) {
    const json::Value golden = goldens_[i].root();
    const std::vector<int32_t> ids = Ids(golden["ids"]);
    const std::string text = Text(i);
    EXPECT_EQ(tokenizer_->Decode(ids).value(), golden["decoded"].StringOr(text)) << i;
    EXPECT_EQ(tokenizer_->Decode(ids, true).value(), golden["skipped"].StringOr(text)) << i;
  }
}

// Words seen before come from a cache: the second time must give the same, also when other
// threads encode with the same tokenizer.
TEST_P(TokenizerGolden, CachedWordsAndThreadsChangeNothing) {
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (size_t n = 0; n < 2 * texts_.size(); ++n) {
        const size_t i = (n * (2 * t + 1)) % texts_.size();
        const auto ids = tokenizer_->Encode(Text(i)).value();
        wrong[t] += ids == Ids(goldens_[i].root()["ids"]) ? 0 : 1;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

// What a stream shows, piece by piece, is what Decode shows at once, and each piece is whole.
// (Broken bytes of byte_fallback tokenizers are the one exception; no text here has them.)
TEST_P(TokenizerGolden, StreamedTextEqualsDecodedText) {
  for (size_t i = 0; i < texts_.size(); ++i) {
    const std::vector<int32_t> ids = Ids(goldens_[i].root()["ids"]);
    StreamDecoder stream(tokenizer_.get());
    std::string text;
    for (int32_t id : ids) {
      const std::string piece = stream.Push(id);
      text += piece;
    }
    text += stream.Flush();
    EXPECT_EQ(text, tokenizer_->Decode(ids, true).value()) << texts_[i].root().Dump();
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, TokenizerGolden,
                         testing::Values("gpt2", "smollm", "qwen2", "llama3", "deepseek", "pcre",
                                         "llama2", "metaspace", "behaviors", "words", "pieces"),
                         [](const auto& kind) { return std::string(kind.param); });

}  // namespace
}  // namespace retort::text
