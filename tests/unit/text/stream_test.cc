// Streaming decoder and stop strings.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <vector>

#include "core/text/tokenizer.h"

namespace retort::text {
namespace {

// A vocabulary of the 256 bytes, byte-mapped, and a special token.
std::unique_ptr<Tokenizer> ByteTokenizer() {
  std::string vocab;
  int next = 0x100;
  for (int b = 0; b < 256; ++b) {
    const bool itself = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    char escaped[32];
    std::snprintf(escaped, sizeof escaped, "\"\\u%04x\":%d", itself ? b : next++, b);
    vocab += (b == 0 ? "" : ",") + std::string(escaped);
  }
  const std::string json =
      R"({"added_tokens":[{"id":256,"content":"<|end|>","special":true,"normalized":false}],)"
      R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":false},)"
      R"("decoder":{"type":"ByteLevel"},"model":{"type":"BPE","merges":[],"vocab":{)" +
      vocab + "}}}";
  auto tokenizer = Tokenizer::FromJson(json, "", "bytes");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().ToString();
  return std::move(tokenizer).value();
}

std::vector<std::string> Stream(const Tokenizer& tokenizer, std::string_view bytes) {
  StreamDecoder decoder(&tokenizer);
  std::vector<std::string> pieces;
  for (char b : bytes) pieces.push_back(decoder.Push(static_cast<unsigned char>(b)));
  pieces.push_back(decoder.Flush());
  return pieces;
}

using Strings = std::vector<std::string>;

TEST(StreamDecoder, AnEmojiComesWithItsLastByte) {
  const auto tokenizer = ByteTokenizer();
  EXPECT_EQ(Stream(*tokenizer, "a\xF0\x9F\x98\x80z"),
            (Strings{"a", "", "", "", "\xF0\x9F\x98\x80", "z", ""}));
}

TEST(StreamDecoder, BrokenBytesBecomeReplacementCharacters) {
  const auto tokenizer = ByteTokenizer();
  // Cut by another character; left over at the end; never valid.
  EXPECT_EQ(Stream(*tokenizer, "\xF0\x9Fz"), (Strings{"", "", "\xEF\xBF\xBDz", ""}));
  EXPECT_EQ(Stream(*tokenizer, "\xE4\xBD"), (Strings{"", "", "\xEF\xBF\xBD"}));
  EXPECT_EQ(Stream(*tokenizer, "\xFF"), (Strings{"\xEF\xBF\xBD", ""}));
}

TEST(StreamDecoder, SpecialTokensAreSkipped) {
  const auto tokenizer = ByteTokenizer();
  StreamDecoder decoder(tokenizer.get());
  EXPECT_EQ(decoder.Push(256), "");
  EXPECT_EQ(decoder.Push('x'), "x");
}

TEST(StopMatcher, HoldsBackWhatMayBecomeAStop) {
  StopMatcher matcher({"###", "\n\n"});
  EXPECT_EQ(matcher.Push("a#"), "a");
  EXPECT_EQ(matcher.Push("b##"), "#b");
  EXPECT_EQ(matcher.Push("c\n"), "##c");
  EXPECT_FALSE(matcher.stopped());
  EXPECT_EQ(matcher.Push("\nmore"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.Push("never"), "");
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcher, StopAcrossThreeChunks) {
  StopMatcher matcher({"<end>"});
  EXPECT_EQ(matcher.Push("x<e"), "x");
  EXPECT_EQ(matcher.Push("n"), "");
  EXPECT_EQ(matcher.Push("d>y"), "");
  EXPECT_TRUE(matcher.stopped());
}

TEST(StopMatcher, FlushGivesTheHeldText) {
  StopMatcher matcher({"<end>"});
  EXPECT_EQ(matcher.Push("x<en"), "x");
  EXPECT_EQ(matcher.Flush(), "<en");
}

TEST(StopMatcher, TheEarliestHitWins) {
  StopMatcher matcher({"cd", "bcde"});
  EXPECT_EQ(matcher.Push("abcdef"), "a");
  EXPECT_TRUE(matcher.stopped());
}

TEST(StopMatcher, WithoutStopsNothingIsHeld) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.Push("abc"), "abc");
  EXPECT_EQ(matcher.Flush(), "");
}

}  // namespace
}  // namespace retort::text
