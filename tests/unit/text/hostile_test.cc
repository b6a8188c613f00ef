// tokenizer.json as attack input: each case is refused with its rule, or is harmless.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>

#include "core/text/tokenizer.h"

namespace retort::text {
namespace {

struct Parts {
  std::string vocab = R"("a":0,"b":1,"ab":2)";
  std::string merges = R"("a b")";
  std::string added = "";
  std::string model = "";  // further keys, with a comma in front
  std::string rest = "";
};

std::string Json(const Parts& parts) {
  return R"({"added_tokens":[)" + parts.added + R"(],"model":{"type":"BPE","vocab":{)" +
         parts.vocab + R"(},"merges":[)" + parts.merges + "]" + parts.model + "}" + parts.rest +
         "}";
}

Result<std::unique_ptr<Tokenizer>> Load(const Parts& parts, std::string_view config = "") {
  return Tokenizer::FromJson(Json(parts), config, "model");
}

void ExpectRejected(const Parts& parts, std::string_view rule, std::string_view config = "") {
  const auto loaded = Load(parts, config);
  ASSERT_FALSE(loaded.ok()) << Json(parts);
  EXPECT_NE(loaded.status().message().find(rule), std::string::npos)
      << loaded.status().message() << "\nwanted: " << rule;
  EXPECT_NE(loaded.status().message().find("tokenizer"), std::string::npos);
}

TEST(TokenizerJson, TheBaseCaseLoads) {
  const auto loaded = Load({});
  ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
  EXPECT_EQ((*loaded)->Encode("abba").value(), (std::vector<int32_t>{2, 1, 0}));
  EXPECT_EQ((*loaded)->vocab_size(), 3);
}

TEST(TokenizerJson, BrokenJsonIsRejected) {
  EXPECT_FALSE(Tokenizer::FromJson("", "", "m").ok());
  EXPECT_FALSE(Tokenizer::FromJson("[]", "", "m").ok());
  EXPECT_FALSE(Tokenizer::FromJson("{}", "", "m").ok());
  EXPECT_FALSE(Tokenizer::FromJson(std::string(1000, '['), "", "m").ok());
  EXPECT_FALSE(Tokenizer::FromJson(Json({}), "{", "m").ok());
}

TEST(TokenizerJson, MergesMustBeOfTheVocabulary) {
  ExpectRejected({.merges = R"("b a")"}, "'ba' is not in model.vocab");
  ExpectRejected({.merges = R"("a c")"}, "'c' is not in model.vocab");
  ExpectRejected({.merges = R"("ab")"}, "not two tokens");
  ExpectRejected({.merges = R"("a b c")"}, "not two tokens");
  ExpectRejected({.merges = R"(["a"])"}, "not two tokens");
  ExpectRejected({.merges = "3"}, "not two tokens");
}

TEST(TokenizerJson, IdsMustBeSmallUniqueIntegers) {
  ExpectRejected({.vocab = R"("a":0,"b":0,"ab":2)"}, "share the id 0");
  ExpectRejected({.vocab = R"("a":-1,"b":1,"ab":2)"}, "ids are integers from 0");
  ExpectRejected({.vocab = R"("a":4294967296,"b":1,"ab":2)"}, "ids are integers from 0");
  ExpectRejected({.vocab = R"("a":2000000000,"b":1,"ab":2)"}, "ids are integers from 0");
  ExpectRejected({.vocab = R"("a":0.5,"b":1,"ab":2)"}, "ids are integers from 0");
  ExpectRejected({.vocab = R"("a":"0","b":1,"ab":2)"}, "ids are integers from 0");
}

TEST(TokenizerJson, LoneSurrogatesAreRejected) {
  EXPECT_FALSE(Load({.vocab = R"("\ud800":0,"b":1,"ab":2)"}).ok());
}

// SmolLM2's vocabulary lacks bytes that no UTF-8 text has, and some others: they give no token.
TEST(TokenizerJson, AByteThatIsNoTokenGivesNoId) {
  const std::string byte_level =
      R"(,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":false})";
  const auto loaded = Load({.rest = byte_level});
  ASSERT_TRUE(loaded.ok());
  EXPECT_EQ((*loaded)->Encode("acb").value(), (std::vector<int32_t>{2}));  // as HF: "ab" joins
  const auto unknown = Load(
      {.vocab = R"("a":0,"b":1,"ab":2,"?":3)", .model = R"(,"unk_token":"?")", .rest = byte_level});
  EXPECT_EQ((*unknown)->Encode("acb").value(), (std::vector<int32_t>{0, 3, 1}));
}

TEST(TokenizerJson, GapsAreAllowed) {
  const auto loaded = Load({.vocab = R"("a":0,"b":7,"ab":20)"});
  ASSERT_TRUE(loaded.ok());
  EXPECT_EQ((*loaded)->vocab_size(), 21);
  EXPECT_EQ((*loaded)->IdToToken(3), "");
  EXPECT_EQ((*loaded)->Decode(std::vector<int32_t>{20, 3, 0}).value(), "ab a");
}

TEST(TokenizerJson, IdsOutsideTheVocabularyAreNotDecoded) {
  const auto loaded = Load({});
  ASSERT_TRUE(loaded.ok());
  for (int32_t id : {-1, 3, 1'000'000'000}) {
    const auto text = (*loaded)->Decode(std::vector<int32_t>{0, id});
    ASSERT_FALSE(text.ok());
    EXPECT_EQ(text.status().code(), Code::kOutOfRange);
    EXPECT_EQ((*loaded)->TokenBytes(id), "");
  }
}

TEST(TokenizerJson, AddedTokensMustFitTheVocabulary) {
  ExpectRejected({.added = R"({"id":1,"content":"a"})"}, "has id 1, but 0 in model.vocab");
  ExpectRejected({.added = R"({"id":1,"content":"x"})"}, "already belongs to 'b'");
  ExpectRejected({.added = R"({"id":4000000000,"content":"x"})"}, "outside");
  ExpectRejected({.added = R"({"id":-5,"content":"x"})"}, "outside");
  ExpectRejected({.added = R"({"id":5,"content":""})"}, "1 to 1024");
  ExpectRejected({.added = R"({"id":5,"content":")" + std::string(2000, 'x') + R"("})"},
                 "1 to 1024");
  ExpectRejected({.added = R"({"id":5,"content":"x"},{"id":6,"content":"x"})"}, "listed twice");
  ExpectRejected({.added = R"({"id":5,"content":"x"},{"id":5,"content":"y"})"}, "share the id 5");
}

TEST(TokenizerJson, AnAddedTokenMayStartAnother) {
  const auto loaded = Load({.added = R"({"id":5,"content":"<x","normalized":false},)"
                                     R"({"id":6,"content":"<x>","normalized":false})"});
  ASSERT_TRUE(loaded.ok());
  EXPECT_EQ((*loaded)->Encode("a<x>b<xa").value(), (std::vector<int32_t>{0, 6, 1, 5, 0}));
}

TEST(TokenizerJson, UnsupportedPartsAreNamed) {
  ExpectRejected({.model = R"(,"dropout":0.1)"}, "model.dropout");
  ExpectRejected({.model = R"(,"end_of_word_suffix":"</w>")"}, "end_of_word_suffix");
  ExpectRejected({.model = R"(,"continuing_subword_prefix":"##")"}, "continuing_subword_prefix");
  ExpectRejected({.model = R"(,"unk_token":"?")"}, "unk_token");
  ExpectRejected({.rest = R"(,"normalizer":{"type":"Precompiled"})"}, "'Precompiled'");
  ExpectRejected(
      {.rest = R"(,"normalizer":{"type":"Replace","pattern":{"Regex":"a"},"content":""})"},
      "'Replace'");
  ExpectRejected({.rest = R"(,"pre_tokenizer":{"type":"UnicodeScripts"})"}, "'UnicodeScripts'");
  ExpectRejected({.rest = R"(,"decoder":{"type":"WordPiece"})"}, "'WordPiece'");
  ExpectRejected({.rest = R"(,"post_processor":{"type":"BertProcessing"})"}, "'BertProcessing'");
  const auto other = Tokenizer::FromJson(R"({"model":{"type":"Unigram","vocab":[]}})", "", "m");
  EXPECT_EQ(other.status().code(), Code::kUnimplemented);
}

TEST(TokenizerJson, HostilePatternsAreRefusedOrLimited) {
  const auto with = [](const std::string& pattern) {
    return Parts{
        .rest = R"(,"pre_tokenizer":{"type":"Split","behavior":"Isolated","pattern":{"Regex":")" +
                pattern + R"("}})"};
  };
  ExpectRejected(with("(*NO_JIT)a"), "split pattern");
  ExpectRejected(with("[a&&b]"), "split pattern");
  const auto loaded = Load(with("(a+)+$"));
  ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
  const auto ids = (*loaded)->Encode(std::string(50, 'a') + "b");
  EXPECT_EQ(ids.status().code(), Code::kOutOfRange);
}

TEST(TokenizerJson, NestedSequencesAreBounded) {
  std::string nested = R"({"type":"NFC"})";
  for (int i = 0; i < 12; ++i) {
    nested = R"({"type":"Sequence","normalizers":[)" + nested + "]}";
  }
  ExpectRejected({.rest = R"(,"normalizer":)" + nested}, "nested at most 8");
}

TEST(TokenizerJson, TemplateIdsMustExist) {
  ExpectRejected(
      {.rest = R"(,"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":)"
               R"({"id":"s","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],)"
               R"("special_tokens":{"s":{"id":"s","ids":[99],"tokens":["s"]}}})"},
      "outside the vocabulary");
  ExpectRejected({.rest = R"(,"post_processor":{"type":"TemplateProcessing","single":[]})"},
                 "sequence A once");
}

TEST(TokenizerJson, RepeatedAndSelfFeedingMergesEnd) {
  const auto loaded =
      Load({.vocab = R"("a":0,"aa":1,"aaaa":2)", .merges = R"("a a","aa aa","a a")"});
  ASSERT_TRUE(loaded.ok());
  EXPECT_EQ((*loaded)->Encode(std::string(9, 'a')).value(), (std::vector<int32_t>{2, 2, 0}));
}

// n log n, not n^2: with a quadratic merge loop this test would run for hours.
TEST(TokenizerJson, OneMegabyteOfOneCharacter) {
  const auto loaded = Load({.vocab = R"("a":0,"aa":1,"aaaa":2)", .merges = R"("a a","aa aa")"});
  ASSERT_TRUE(loaded.ok());
  const auto ids = (*loaded)->Encode(std::string(1 << 20, 'a')).value();
  EXPECT_EQ(ids, std::vector<int32_t>(1 << 18, 2));
}

TEST(TokenizerJson, AMegabyteOfMarksNormalises) {
  // Alternating combining classes: the worst case for sorting by insertion.
  std::string text;
  for (int i = 0; i < 250'000; ++i) text += "\u0301\u0323";
  const auto loaded = Load({.rest = R"(,"normalizer":{"type":"NFC"})"});
  ASSERT_TRUE(loaded.ok());
  EXPECT_TRUE((*loaded)->Encode(text).ok());
}

TEST(TokenizerText, InvalidUtf8IsReadAsReplacementCharacters) {
  const auto loaded = Load({.vocab = "\"a\":0,\"b\":1,\"ab\":2,\"\uFFFD\":3"});
  ASSERT_TRUE(loaded.ok());
  EXPECT_EQ((*loaded)->Encode("a\xFF\xE4\xBD\x62").value(), (std::vector<int32_t>{0, 3, 3, 1}));
}

TEST(TokenizerConfig, TokensMayBeStringsOrObjects) {
  const auto loaded = Load({}, R"({"bos_token":{"content":"a"},"eos_token":"b","pad_token":null})");
  ASSERT_TRUE(loaded.ok());
  EXPECT_EQ((*loaded)->bos_id(), 0);
  EXPECT_EQ((*loaded)->eos_id(), 1);
  EXPECT_EQ((*loaded)->pad_id(), -1);
}

TEST(TokenizerConfig, LlamaClassesAddBosAndEosThemselves) {
  const std::string config =
      R"("bos_token":"a","eos_token":"b","add_bos_token":true,"add_eos_token":true})";
  const auto llama = Load({}, R"({"tokenizer_class":"LlamaTokenizerFast",)" + config);
  EXPECT_EQ((*llama)->Encode("b").value(), (std::vector<int32_t>{0, 1, 1}));
  const auto other = Load({}, R"({"tokenizer_class":"Qwen2Tokenizer",)" + config);
  EXPECT_EQ((*other)->Encode("b").value(), (std::vector<int32_t>{1}));
  EXPECT_NE((*llama)->hash(), (*other)->hash());
  ExpectRejected({}, "bos_token is not in the vocabulary",
                 R"({"tokenizer_class":"LlamaTokenizer","add_bos_token":true})");
}

TEST(TokenizerHash, SaysWhetherEncodingIsEqual) {
  const std::string base = (*Load({}))->hash();
  EXPECT_EQ(base, (*Load({}))->hash());
  EXPECT_NE(base, (*Load({.merges = ""}))->hash());
  EXPECT_NE(base, (*Load({.added = R"({"id":3,"content":"x"})"}))->hash());
  EXPECT_NE(base, (*Load({.rest = R"(,"normalizer":{"type":"NFC"})"}))->hash());
}

}  // namespace
}  // namespace retort::text
