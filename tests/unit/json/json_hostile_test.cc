// What the parser must refuse, each with its rule and place; RapidJSON alone would crash on or
// accept most of these.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/json/json.h"

namespace retort::json {
namespace {

using ::testing::HasSubstr;

void ExpectRejected(std::string_view text, const std::string& rule,
                    const ParseOptions& options = {}) {
  const Result<Document> doc = Document::Parse(text, "f.json", options);
  ASSERT_FALSE(doc.ok()) << text.substr(0, 80);
  EXPECT_EQ(doc.status().code(), Code::kInvalidArgument);
  EXPECT_THAT(doc.status().message(), HasSubstr(rule));
  EXPECT_THAT(doc.status().message(), HasSubstr("f.json"));
}

TEST(JsonHostile, OneMegabyteOfBrackets) {
  ExpectRejected(std::string(1 << 20, '['), "f.json:1:65: nested deeper than 64");
  std::string objects;
  while (objects.size() < 500'000) objects += "{\"a\":";
  ExpectRejected(objects, "nested deeper than 64");
}

TEST(JsonHostile, DuplicateKeys) {
  ExpectRejected("{\"a\": 1,\n \"\\u0061\": 2}", "f.json:2:2: key \"a\" occurs twice");
  std::string big = "{\"k5\":0";
  for (int i = 0; i < 20; ++i) big += ",\"k" + std::to_string(i) + "\":1";
  ExpectRejected(big + "}", "key \"k5\" occurs twice");
}

TEST(JsonHostile, BytesAfterTheValue) {
  ExpectRejected("{} x", "f.json:1:4");
  ExpectRejected(std::string_view("{}\0{", 4), "NUL");
  ExpectRejected(std::string_view("{}\0", 3), "NUL");
  ExpectRejected(std::string_view("[1,\0]", 5), "f.json:1:4");
  ExpectRejected(std::string_view("\"a\0b\"", 5), "f.json:1:3");
}

TEST(JsonHostile, BadUtf8AndSurrogates) {
  ExpectRejected("\"a\xFF\"", "encoding");
  ExpectRejected("\"\xED\xA0\x80\"", "encoding");
  ExpectRejected("\"\xC0\x80\"", "encoding");
  ExpectRejected("\"\xF4\x90\x80\x80\"", "encoding");
  ExpectRejected(R"("\ud800")", "surrogate");
  ExpectRejected(R"("\udc00")", "surrogate");
  ExpectRejected(R"("\ud800A")", "surrogate");
  ExpectRejected(R"({"\udc00": 1})", "surrogate");
}

TEST(JsonHostile, Limits) {
  ExpectRejected("[1,2,3,4]", "more than 4 values", {.max_values = 4});
  ExpectRejected(R"({"a":1,"b":2})", "more than 1 keys", {.max_keys = 1});
  ExpectRejected("[1, 2]", "6 bytes of JSON; the limit here is 5", {.max_bytes = 5});
}

TEST(JsonHostile, NotJson) {
  for (std::string_view text :
       {"",       " ",        "{",     "[1,]",        "{\"a\":1,}", "{a:1}",
        "NaN",    "Infinity", "01",    "+1",          ".5",         "1.",
        "1e",     "'a'",      "[1 2]", "tru",         "\"a",        "\"\\x\"",
        "\"\t\"", "// c\n1",  "-",     "[-Infinity]", "\"\\u12G4\""}) {
    ExpectRejected(text, "f.json:1");
  }
  ExpectRejected("[1e999]", "f.json:1");
}

TEST(JsonHostile, MillionsOfSmallValuesStayCheap) {
  std::string text = "[1";
  while (text.size() < 900'000) text += ",1";
  const Result<Document> doc = Document::Parse(text + "]", "f.json");
  ASSERT_TRUE(doc.ok());
  EXPECT_EQ(doc.value().root().size(), text.size() / 2);
}

TEST(JsonHostile, EveryPrefixOfADocumentIsRefused) {
  const std::string text = R"({"a":[1,2.5,{"b":"c\n\u00e9é中"}],"d😀":null,"e":true})";
  ASSERT_TRUE(Document::Parse(text, "t").ok());
  for (size_t n = 0; n < text.size(); ++n) {
    EXPECT_FALSE(Document::Parse(text.substr(0, n), "t").ok()) << n;
  }
}

}  // namespace
}  // namespace retort::json
